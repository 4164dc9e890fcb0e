from uptake.core.plain import as_tuples


def test_lists_become_tuples_at_any_depth_and_nothing_else_changes():
    assert as_tuples([1, [2.5, ["a"]], None]) == (1, (2.5, ("a",)), None)
    assert as_tuples("ab") == "ab" and as_tuples({"a": [1]}) == {"a": [1]}

"""Numbers, pictures and the report of one case. Returns rows, text and bytes; files are written by `uptake.io.write`.

`lesions` and `organs` measure, `suv_metrics` defines SUVpeak and the MTV rules, `tables` and `organ_tables` make rows
and JSON. `assessment` holds lesions against organs: `places` names where they are, `reference_regions` finds liver and
blood pool, `response` applies PERCIST and the five-point scale, `spread` measures Dmax. `pictures` draws with `views`
and `drawing`, `report` makes the HTML page, `manifest` the content of run.json.
"""

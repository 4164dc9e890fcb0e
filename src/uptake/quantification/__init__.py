"""Numbers, pictures and the report of one case. Returns rows, text and bytes; files are written by `uptake.io.write`.

`lesions` measures, `suv_metrics` defines SUVpeak and the MTV rules, `tables` makes rows and JSON, `pictures` draws with
`views` and `drawing`, `report` makes the HTML page, `manifest` the content of run.json.
"""

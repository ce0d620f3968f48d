"Texts with two dollar signs in JupyterLab: shown as they were written, where a plain table makes a formula of them"
import json
import sys

import numpy as np, pytest
from panel_browser import free_port, serve, stop

TEXT = 'worth $5, not $10, \\(x\\) and \\[y\\]'

def outputs():
    "HTML of results as the library makes it, by what it is"
    from textnb.base import Html, html_table
    from textnb.explain import Attribution
    from textnb.panels import rows_table, excerpt, shading, styled
    pieces = TEXT.split()
    a = Attribution(text=TEXT, tokens=pieces, ids=np.arange(len(pieces)), scores=np.full(len(pieces), .1), spans=[None]*len(pieces), method='lrp', target=0, target_name=TEXT, probs=np.ones(1), signed=True)
    row = dict(row=0, text=excerpt(TEXT))
    return dict(
        table=html_table(['text', TEXT], [[TEXT, 1]], caption=TEXT), result=Html(f'<p>{TEXT}</p>')._repr_html_(), attribution=a._repr_html_(),
        panel=styled(shading(pieces, [.5]*len(pieces))+rows_table([('Text', 'auto', 'text')], [row], TEXT)))

def page_of(html):
    "A notebook with saved outputs, one a cell"
    cells = [dict(cell_type='code', id=f'c{i}', metadata={}, source=f'{k}', execution_count=1, outputs=[dict(output_type='display_data', metadata={}, data={'text/html': v})]) for i,(k,v) in enumerate(html.items())]
    return json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5))

def test_dollars(chromium, watched, tmp_path):
    "JupyterLab makes no formula of a text that the library shows; of the same text in HTML of one's own it does"
    pytest.importorskip('jupyterlab')
    (tmp_path/'n.ipynb').write_text(page_of(dict(outputs(), plain=f'<p>{TEXT}</p>')))
    port = free_port()
    args = '--no-browser --allow-root --IdentityProvider.token= --ServerApp.disable_check_xsrf=True --LabApp.news_url= --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate'
    p = serve(tmp_path, [sys.executable, '-m', 'jupyterlab', *args.split(), f'--port={port}', f'--ServerApp.root_dir={tmp_path}'], f'http://127.0.0.1:{port}/api')
    try:
        page = watched(f'http://127.0.0.1:{port}/doc/tree/n.ipynb')
        page.locator('.jp-OutputArea-output mjx-container').first.wait_for(timeout=90_000)
        cells = page.locator('.jp-CodeCell')
        found = [cells.nth(i).locator('mjx-container').count() for i in range(cells.count())]
        page.goto('about:blank')
        assert len(found)==5 and found[:4]==[0]*4 and found[4]>=2
    finally: stop(p)

"Panels in a real browser: one Voila server for all tests, and pages that allow no error in the console and no request to another host"
import pytest
from panel_browser import free_port, serve, stop, write_panel

@pytest.fixture(scope='session')
def voila(chromium, tmp_path_factory):
    "A Voila server: its folder and its address"
    pytest.importorskip('voila')
    from textnb.panels import page_command
    d,port = tmp_path_factory.mktemp('voila'),free_port()
    cmd,env = page_command(d, port)
    write_panel(d, '')
    p = serve(d, cmd, f'http://127.0.0.1:{port}/voila/static/voila.js', env)
    yield d,f'http://127.0.0.1:{port}'
    stop(p)

@pytest.fixture
def watched(browser):
    "`watched(url, scheme, width)` opens a page; in the end there must have been no error in its console and no request to another host"
    made,bad = [],[]
    def see(url, scheme='light', width=1100, height=1000):
        ctx = browser.new_context(color_scheme=scheme, viewport=dict(width=width, height=height), accept_downloads=True)
        made.append(ctx)
        page,host = ctx.new_page(),url.split('/')[2]
        def outside(r):
            bad.append(f'request to {r.request.url}')
            r.abort()
        ctx.route(lambda u: not u.startswith(('data:', 'blob:', 'about:')) and u.split('/')[2]!=host, outside)
        page.on('pageerror', lambda e: bad.append(f'{e}'))
        page.on('console', lambda m: m.type=='error' and bad.append(m.text))
        page.goto(url, timeout=90_000)
        return page
    yield see
    for ctx in made:
        for page in ctx.pages: page.goto('about:blank')
        ctx.close()
    assert bad == []

@pytest.fixture
def open_panel(voila, watched):
    "`open_panel(src, scheme='light', width=1100)` is the page of a notebook with the one cell `src`, once its panel is there"
    d,url = voila
    def see(src, scheme='light', width=1100, n=1, **kwargs):
        nm = f'n{len(list(d.glob("*.ipynb")))}.ipynb'
        write_panel(d, src, nm)
        page = watched(f'{url}/voila/render/{nm}?theme={scheme}', scheme, width, **kwargs)
        page.locator('.tnb-panel').nth(n-1).wait_for(timeout=60_000)
        return page
    return see

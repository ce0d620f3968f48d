"The docs site: built whole, and every page opened in a browser, in the light and the dark theme"
import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest

pytest.importorskip('smalldocs', reason='smalldocs needs Python 3.11')
ROOT = Path(__file__).parent.parent
MERMAID = 'https://cdn.jsdelivr.net/npm/mermaid@'  # the one thing from elsewhere: a diagram

@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The site of a copy of the project, so that the test leaves no files behind"
    from tools.docs.build import build_site
    from tools.docs.pages import as_if_tested
    top = tmp_path_factory.mktemp('project')
    for o in 'pyproject.toml', 'README.md': shutil.copy(ROOT/o, top)
    skip = shutil.ignore_patterns('__pycache__', 'nbdev.yml', 'sidebar.yml', '.ipynb_checkpoints', 'models', '*.tnb')
    for o in 'nbs', 'textnb': shutil.copytree(ROOT/o, top/o, ignore=skip)
    with as_if_tested(top): return build_site(top/'site')

def test_no_warnings(site):
    "No page is missing, no link is broken, and nothing else is wrong"
    dest,warnings = site
    assert warnings == []
    nbs = [o for o in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in o.parts]
    assert len(list(dest.rglob('*.html'))) == len(nbs)+1  # and the page of classes

def test_search_and_sidebar(site):
    "Search knows the library's names, and each page is in the sidebar of every other"
    dest,_ = site
    assert 'TextClasDataBunch' in (dest/'search.json').read_text(encoding='utf-8')
    home = (dest/'index.html').read_text(encoding='utf-8')
    for o in dest.rglob('*.html'): assert f'href="{o.relative_to(dest).as_posix()}"' in home, f'{o.name} is not in the sidebar'

@pytest.fixture(scope='session')
def served(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    srv = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(site[0])))
    threading.Thread(target=srv.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{srv.server_port}/'
    srv.shutdown()
    srv.server_close()

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_pages_in_a_browser(site, served, browser, scheme):
    "Every page shows its title and reads well: no error in the console, no request to another host but for Mermaid, no sideways scrolling"
    dest,bad = site[0],[]
    ctx = browser.new_context(color_scheme=scheme, viewport=dict(width=1280, height=900))
    stub = 'export default {initialize() {}, run() {}, render() { return {svg: ""} }}'
    def outside(r): r.fulfill(status=200, content_type='text/css' if '.css' in r.request.url else 'text/javascript', body=stub if '.mjs' in r.request.url else '')
    ctx.route(lambda u: not u.startswith(served), outside)
    page = ctx.new_page()
    page.on('pageerror', lambda e: bad.append(f'{nm}: {e}'))
    page.on('console', lambda m: m.type=='error' and bad.append(f'{nm}: {m.text}'))
    page.on('request', lambda r: r.url.startswith((served, 'data:', MERMAID)) or bad.append(f'{nm}: request to {r.url}'))
    for f in sorted(dest.rglob('*.html')):
        nm = f.relative_to(dest).as_posix()
        page.goto(served+nm)
        if not page.locator('h1').first.is_visible(): bad.append(f'{nm}: no title to see')
        if page.evaluate('document.documentElement.scrollWidth > innerWidth'): bad.append(f'{nm}: wider than the window')
    ctx.close()
    assert bad == []

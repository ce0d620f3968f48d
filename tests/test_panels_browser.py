"The attention panel and the method bench in a real browser: Voila, JupyterLab, and the page that `textnb panel` serves"
import re
import signal
import sys
from importlib.util import find_spec
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
from panel_browser import free_port, notebook, serious, serve, stop
from playwright.sync_api import expect

from textnb.base import set_seed
from textnb.text import TextClasDataBunch
from textnb.learn import load_learner, text_classifier_learner
from textnb.models import AWD_LSTM
from textnb.panels import AttentionPanel

expect.set_options(timeout=30_000)
XSS = '<img src=x onerror=window.pwned=1>'
SRC = '''
from IPython.display import display
from textnb.learn import load_learner
from textnb.panels import AttentionPanel, MethodBench
learn = load_learner({path!r})
class Fragile(AttentionPanel):
    def work(self, state):
        if 'boom' in state['text']: raise RuntimeError('a <b>boom</b>')
        yield from super().work(state)
display(Fragile(learn, 'a great film'))
MethodBench(learn, 'a great film', methods=['lrp', 'occlusion'])
'''

@pytest.fixture(scope='session')
def model(tmp_path_factory):
    "A classifier for which one word decides; one of its classes is called like an attack"
    d,r = tmp_path_factory.mktemp('model'),np.random.default_rng(0)
    ws = 'the film was a story of two people in one long night'.split()
    rows = [(['neg', XSS][i%2], ' '.join([*r.choice(ws, r.integers(2, 6)), ['awful', 'great'][i%2], *r.choice(ws, r.integers(0, 4))])) for i in range(160)]
    df = pd.DataFrame(rows, columns=['label', 'text'])
    data = TextClasDataBunch.from_df(d, df[:140], df[140:], text_cols='text', label_cols='label', bs=16, min_freq=1, seed=0)
    set_seed(1)
    learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=16, n_hid=24, n_layers=1), drop_mult=.1, pretrained=False, silent=True)
    learn.fit_one_cycle(4, 2e-2)
    learn.export('model.tnb')
    return d/'model.tnb'

def spans(page, nth=0): return page.locator('.tnb-panel').nth(nth).locator('.tnb-text').first.locator('span')

def shown(page): return [(o.inner_text(), o.get_attribute('title')) for o in spans(page).all()]

def wanted(model, text, **kwargs):
    "Words and scores as Python gives them at once"
    html = AttentionPanel(load_learner(model), text, **kwargs).to_html()
    return re.findall(r'<span title="([^"]+)"[^>]*>([^<]*)</span>', html.split('tnb-text">')[1].split('</div>')[0])

def fits(page): return page.evaluate('document.documentElement.scrollWidth<=innerWidth && [...document.querySelectorAll(".tnb-panel")].every(o => o.scrollWidth<=o.clientWidth+1)')

WATCH = '''() => { window.seqs = []
  const look = () => document.querySelectorAll('.tnb-panel')[0].querySelectorAll('[data-seq]').forEach(o => window.seqs.push(+o.dataset.seq))
  new MutationObserver(look).observe(document.querySelectorAll('.tnb-panel')[0], {childList: true, subtree: true}) }'''

def test_typing_and_keyboard(open_panel, model):
    "C1, E2, E5, E7, E8: type, and the shading follows; every choice and the download by keyboard; markup is text; an error is seen, and goes"
    page = open_panel(SRC.format(path=str(model)), n=2)
    expect(spans(page)).to_have_text(['a', 'great', 'film'])
    page.evaluate(WATCH)
    box = page.locator('.tnb-panel textarea').first
    for _ in range(10):
        page.keyboard.press('Tab')
        if box.evaluate('o => o===document.activeElement'): break
    page.keyboard.press('Control+a')
    text = f'two people in one awful night, {XSS} "great"'
    page.keyboard.type(text, delay=5)
    want = wanted(model, text)
    expect(spans(page)).to_have_count(len(want))
    assert [(t, w) for w,t in shown(page)]==[(a, b.replace('&lt;', '<').replace('&gt;', '>').replace('&quot;', '"')) for a,b in want]
    assert page.locator('.tnb-panel .tnb-text').first.inner_text()==text
    seqs = page.evaluate('seqs')
    assert seqs==sorted(seqs)

    page.keyboard.press('Tab')
    for _ in range(2): page.keyboard.press('ArrowDown')
    expect(page.locator('.tnb-panel').first).to_contain_text('for neg')
    for label in 'Rather than', 'Method', 'Target', 'Baseline', 'Shade', 'Colours': page.keyboard.press('Tab')
    page.keyboard.press('Tab')
    for _ in range(3): page.keyboard.press('ArrowDown')
    expect(page.locator('.tnb-panel').first).to_contain_text('drawn: strength alone')
    page.keyboard.press('Tab')
    for _ in range(2): page.keyboard.press('ArrowDown')
    expect(page.locator('.tnb-panel').first).to_contain_text('drawn: strength alone, gamma 0.5')
    page.keyboard.press('Tab')
    page.keyboard.press('ArrowDown')
    expect(page.locator('.tnb-panel').first).to_contain_text('is a mark of the document')
    page.keyboard.press('Tab')
    page.keyboard.press('Space')
    expect(page.get_by_text('Scores, piece by piece')).to_be_visible()
    page.keyboard.press('Tab')
    page.keyboard.press('Enter')
    expect(page.get_by_role('link', name='attention.csv')).to_be_visible()
    for _ in range(1+page.locator('.tnb-text [tabindex="0"]').count()): page.keyboard.press('Tab')
    with page.expect_download() as d: page.keyboard.press('Enter')
    assert d.value.suggested_filename=='attention.html'

    box.fill('boom')
    expect(page.get_by_role('alert')).to_contain_text('a <b>boom</b>')
    page.get_by_text('Traceback', exact=True).click()
    expect(page.locator('.tnb-error pre')).to_contain_text('RuntimeError')
    assert serious(page)==[]
    box.fill('a great story')
    expect(spans(page)).to_have_text(['a', 'great', 'story'])
    expect(page.get_by_role('alert')).to_have_count(0)
    assert page.evaluate('window.pwned') is None

def test_bench_and_dark(open_panel, model):
    "C4, E3, E5: methods are chosen and sorted; in the dark and on a narrow page everything can be read and nothing overflows"
    page = open_panel(SRC.format(path=str(model)), 'dark', 480, n=2)
    bench = page.locator('.tnb-panel').nth(1)
    expect(bench.locator('.tnb-text')).to_have_count(2)
    bench.locator('select[multiple]').select_option(['lrp', 'occlusion', 'gradient norm'])
    expect(bench.locator('.tnb-text')).to_have_count(3)
    bench.get_by_label('Sort by').select_option('comprehensiveness')
    vals = lambda: [float(o) for o in re.findall(r'comprehensiveness (-?[\d.]+)', bench.inner_text())]
    expect(bench.locator('.tnb-chip').first).to_contain_text('comprehensiveness')
    page.wait_for_function('() => document.querySelectorAll(".tnb-panel")[1].querySelector("[data-seq]").dataset.seq>=2')
    assert vals()==sorted(vals(), reverse=True) and len(vals())==3
    cells = bench.locator('table').first.locator('td.tnb-num').all_inner_texts()
    m = np.array([float(o) for o in cells]).reshape(3, 3)
    assert (m==m.T).all() and (np.diag(m)==1).all()
    assert serious(page)==[] and fits(page)
    page.set_viewport_size(dict(width=1100, height=900))
    assert fits(page)
    assert page.evaluate('window.pwned') is None

def address_in(said):
    "The address, with its token, that `textnb panel` has given, or None"
    found = re.search(r'http://\S+token=\S+', said)
    return found and found[0]

def test_command(chromium, watched, model, tmp_path):
    "`textnb panel` serves the panel of a model on this machine, and Ctrl-C ends it and its kernel"
    port = free_port()
    cmd = [sys.executable, '-c', 'from textnb.command.parser import main; raise SystemExit(main())', 'panel', str(model), '--no-browser', f'--port={port}', '--text', f'a great {XSS}', '--theme', 'dark']
    p = serve(tmp_path, cmd, address_in)
    try:
        page = watched(address_in((tmp_path/'server.log').read_text()))
        page.locator('.tnb-panel textarea').wait_for(timeout=60_000)
        assert page.locator('.tnb-text').first.inner_text()==f'a great {XSS}'
        page.locator('textarea').fill('an awful film')
        expect(spans(page)).to_have_text(['an', 'awful', 'film'])
        page.goto('about:blank')
        p.send_signal(signal.SIGINT)
        assert p.wait(20)==0
        with pytest.raises(OSError): urlopen(f'http://127.0.0.1:{port}/', timeout=5)
    finally: stop(p)

def test_jupyterlab(chromium, watched, model, tmp_path):
    "The same panel in JupyterLab"
    pytest.importorskip('jupyterlab')
    src = f'from textnb.panels import open_panel\nopen_panel("attention", {str(model)!r}, text="a great film")'
    (tmp_path/'nb.ipynb').write_text(notebook(src), encoding='utf-8')
    port = free_port()
    args = '--no-browser --allow-root --IdentityProvider.token= --ServerApp.disable_check_xsrf=True --LabApp.news_url= --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate'
    p = serve(tmp_path, [sys.executable, '-m', 'jupyterlab', *args.split(), f'--port={port}', f'--ServerApp.root_dir={tmp_path}'], f'http://127.0.0.1:{port}/api')
    try:
        page = watched(f'http://127.0.0.1:{port}/lab/tree/nb.ipynb')
        page.locator('.jp-Notebook .jp-CodeCell').first.wait_for(timeout=60_000)
        page.add_locator_handler(page.locator('.jp-Dialog .jp-mod-accept'), lambda o: o.click())
        expect(page.locator('#jp-bottom-panel, .jp-StatusBar-Widget').get_by_text('| Idle')).to_be_visible(timeout=60_000)
        page.locator('.jp-CodeCell .cm-content').click()
        page.keyboard.press('Shift+Enter')
        page.locator('.tnb-panel textarea').wait_for(timeout=60_000)
        page.locator('.tnb-panel textarea').fill('an awful film')
        expect(spans(page)).to_have_text(['an', 'awful', 'film'])
        if find_spec('anywidget'):
            page.get_by_role('option', name='an, ').focus()
            page.keyboard.press('ArrowRight')
            page.keyboard.press('Enter')
            expect(page.locator('.tnb-text .tnb-on')).to_have_text('awful')
            expect(page.locator('.tnb-text .tnb-on')).to_be_focused()
        page.goto('about:blank')
    finally: stop(p)

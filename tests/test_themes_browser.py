"Every text of every panel can be read: on light and dark pages of JupyterLab, on the white that VS Code puts under widgets, in Colab's dark, and in print without colours"
import io
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from textnb.all import *
from textnb.explain import TextClassificationInterpretation
from textnb.panels import (drawing, panel as panel_module, MAPS, AttentionPanel, BeamPanel, CleaningDesk, EditPanel, HeadsPanel, MethodBench,
    TopLossPanel, UnitPanel, WritingPanel)

TEXT = 'two people in one awful night, a great film'

def classifier(d):
    "A classifier that has learned which of two words goes with which class, and its data"
    r,ws = np.random.default_rng(0),'the film was a story of two people in one long night'.split()
    df = pd.DataFrame([(['neg', 'pos'][i%2], ' '.join([*r.choice(ws, 6), ['awful', 'great'][i%2]])) for i in range(80)], columns=['label', 'text'])
    data = TextClasDataBunch.from_df(d, df[:60], df[60:], text_cols='text', label_cols='label', bs=16, min_freq=1, seed=0)
    set_seed(1)
    learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=12, n_hid=16, n_layers=1), drop_mult=.1, pretrained=False, silent=True)
    learn.fit_one_cycle(2, 2e-2)
    return learn

def language_model(d, arch, config):
    df = pd.DataFrame(dict(text=['one two three four five six seven eight nine ten']*8))
    data = TextLMDataBunch.from_df(d, df, df[:2], text_cols='text', min_freq=1, bs=4, bptt=10)
    return language_model_learner(data, arch, config=config, pretrained=False, silent=True)

def states(d):
    "Panels with all that they can show, by name"
    learn,words = classifier(d/'a'),'one two three four five six'
    lm = language_model(d/'b', AWD_LSTM, dict(emb_sz=12, n_hid=16, n_layers=1))
    xl = language_model(d/'c', TransformerXL, dict(d_model=16, n_heads=2, d_head=8, d_inner=16, n_layers=2, ctx_len=12, mem_len=3))
    interp = TextClassificationInterpretation.from_learner(learn)
    yield 'attention', AttentionPanel(learn, TEXT).send('numbers', True).send('token', 6).send('files')
    yield 'strength', AttentionPanel(learn, TEXT, gamma=.25, sign='strength', view='tokens')
    for m in MAPS: yield m, AttentionPanel(learn, TEXT, cmap=m, gamma=.5)
    yield 'methods', MethodBench(learn, TEXT, methods=['lrp', 'occlusion', 'gradient norm']).send('numbers', True).send('files')
    yield 'writing', WritingPanel(lm, words).send('numbers', True)
    yield 'beams', BeamPanel(lm, words).send('numbers', True)
    yield 'units', UnitPanel(lm, words, 'two').send('numbers', True)
    yield 'heads', HeadsPanel(xl, words, 2).send('numbers', True)
    yield 'edits', EditPanel(learn, TEXT, lm).send('place', 5).send('take').send('place', 9).send('take').send('undo')
    yield 'hotflip', EditPanel(learn, TEXT).send('place', 5).send('take')
    row = int(interp.losses.argmax())
    yield 'losses', TopLossPanel(interp, size=5).send('text', interp.text_of(row).split()[0]).send('open', row)
    yield 'cleaning', CleaningDesk(interp, size=5).send('open', row).send('drop').send('label', 'neg').send('note', 'odd').send('open', row)
    yield 'error', AttentionPanel(learn, TEXT).send('gamma', 9)

@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    "By name: the drawing for pages without Python, and what the widgets of the live panel show"
    res = {}
    for k,p in states(tmp_path_factory.mktemp('themes')):
        assert p.error is None or k=='error', (k, p.error)
        live = [w.value for w in panel_module._family(p.widget) if type(w).__name__=='HTML']
        for w in panel_module._family(p.widget):
            if getattr(w, 'style', None) and getattr(w.style, 'button_color', None): assert w.style.text_color, 'a button with a background of its own and without a text colour'
        res[k] = p.to_html(),''.join(live)
        p.close()
    return res

def lab(kind):
    "The colours of JupyterLab, as its theme has them"
    css = Path(sysconfig.get_path('data'))/f'share/jupyter/lab/themes/@jupyterlab/theme-{kind}-extension/index.css'
    if not css.exists(): pytest.skip('JupyterLab is not installed')
    return css.read_text(encoding='utf-8')+'body{background:var(--jp-layout-color0);color:var(--jp-ui-font-color1)}'+f'body{{color-scheme:{kind}}}'

CODE = 'body{background:#1e1e1e;color:#d4d4d4;--vscode-editor-foreground:#d4d4d4;--vscode-foreground:#cccccc;--vscode-editor-background:#1e1e1e}'
WHITE = '.white,.cell-output-ipywidget-background{background:white !important}'
THEMES = {
    'JupyterLab, light': ('', '', '', lambda: lab('light')), 'JupyterLab, dark': ('', '', '', lambda: lab('dark')),
    'VS Code, dark': ('', ' class="vscode-dark" data-vscode-theme-kind="vscode-dark"', 'white', lambda: CODE+WHITE),
    'VS Code, dark, by its box': ('', '', 'cell-output-ipywidget-background', lambda: CODE+WHITE),
    'Colab, dark': (' theme="dark"', '', '', lambda: 'html[theme=dark] body{background:#383838;color:#d5d5d5}'),
    'a bare page': ('', '', '', lambda: '')}

def fixture(theme, drawn):
    "A page in the colours of `theme` with all drawings, everything unfolded"
    html,body,box,css = THEMES[theme]
    parts = ''.join(f'<div data-of="{k}"><div>{twin}</div><div class="{box}"><div class="tnb-panel">{live}</div></div></div>' for k,(twin,live) in drawn.items())
    return f'<!doctype html><html{html}><head><style>{css()}</style></head><body{body}>{parts.replace("<details", "<details open")}</body></html>'

CONTRAST = '''() => {
  const parse = s => { const v = s.match(/[\\d.]+/g).map(Number); return [v[0], v[1], v[2], v[3] ?? 1] }
  const over = (top, below, a) => [0, 1, 2].map(i => top[i]*a+below[i]*(1-a))
  const light = c => { const [r, g, b] = c.map(o => (o /= 255)<=.03928 ? o/12.92 : ((o+.055)/1.055)**2.4); return .2126*r+.7152*g+.0722*b }
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((m, n) => n-m); return (x+.05)/(y+.05) }
  const page = getComputedStyle(document.body).colorScheme=='dark' ? [18, 18, 18] : [255, 255, 255]
  const under = el => {
    if (!el) return page
    const below = under(el.parentElement)
    const shape = el instanceof SVGTextElement && [...el.parentElement.children].filter(o => o.matches('rect')).pop()
    const c = parse(shape && getComputedStyle(shape).fill!='none' ? getComputedStyle(shape).fill : getComputedStyle(el).backgroundColor)
    return over(c, below, c[3])
  }
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), res = []
  while (walk.nextNode()) {
    const text = walk.currentNode.data.trim(), el = walk.currentNode.parentElement
    if (!text || ['STYLE', 'title'].includes(el.tagName) || !el.checkVisibility()) continue
    const style = getComputedStyle(el), c = parse(el instanceof SVGElement ? style.fill : style.color), b = under(el)
    let a = c[3]
    for (let o = el; o; o = o.parentElement) a *= +getComputedStyle(o).opacity
    res.push({where: el.closest('[data-of]')?.dataset.of ?? '', text: text.slice(0, 40), ratio: ratio(over(c, b, a), b), colours: [style.color, b.map(Math.round).join()]})
  }
  return res
}'''

def test_the_measure(page):
    "The ratio is that of WCAG, whatever lies over whatever"
    page.set_content('''<body style="background:#fff"><p style="color:#777">a</p><p style="color:#767676">b</p><div style="background:#0008"><p style="color:#fff">c</p></div>
        <p style="color:#000;opacity:.5">d</p><svg><g><rect fill="#000" width="9" height="9"/><text fill="#fff">e</text></g></svg><p hidden>f</p></body>''')
    assert {o['text']: round(o['ratio'], 2) for o in page.evaluate(CONTRAST)}==dict(a=4.48, b=4.54, c=4.47, d=3.98, e=21)

@pytest.mark.parametrize('theme', THEMES)
def test_every_text_can_be_read(page, drawn, theme):
    "E3: contrast of 4.5 or more"
    page.set_content(fixture(theme, drawn))
    found = page.evaluate(CONTRAST)
    assert {o['where'] for o in found}==set(drawn) and len(found)>1000
    assert [o for o in found if o['ratio']<4.5]==[]

def dots(png, box):
    "How uneven a word is under its letters, in shades of grey: 0 where nothing is drawn there"
    from matplotlib.image import imread
    x,y,w,h = (round(box[k]) for k in ('x', 'y', 'width', 'height'))
    a = imread(io.BytesIO(png))[y+h-4:y+h+3, x+4:x+w-4, :3]*255
    assert np.ptp(a, axis=-1).max()<2, 'a colour in a picture that should be grey'
    return a[...,0].std(axis=1).max()

@pytest.mark.parametrize('cmap', [None, 'RdYlGn', 'Greys'])
def test_sign_in_print_without_colours(page, cmap):
    "E4: on paper, in black and white, words against are told from words for by the dots under them"
    scores = [.1, -.1, .3, -.3, .6, -.6, .8, -.8, 1, -1]
    page.emulate_media(media='print')
    page.set_content(f'<style>html{{filter:grayscale(1);background:#fff}}</style>{drawing.STYLE}<div class="tnb">{drawing.shading(["nnnn"]*10, scores, cmap)}</div>')
    png,boxes = page.screenshot(),[o.bounding_box() for o in page.locator('.tnb-text span').all()]
    for s,b in zip(scores, boxes): assert dots(png, b)>8 if s<0 else dots(png, b)<1, (s, dots(png, b))
    assert page.locator('.tnb').evaluate('o => getComputedStyle(o).printColorAdjust')=='exact', 'backgrounds are left out by the printer'

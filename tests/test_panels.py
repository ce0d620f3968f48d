"The frame of the panels, the attention panel and the method bench, without a browser"
import asyncio
import gc
import json
import re
import sys
import types
import weakref
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from textnb.explain import Attribution, attribute, faithfulness
from textnb.base import set_seed
from textnb.text import TextClasDataBunch, TextLMDataBunch
from textnb.learn import language_model_learner, text_classifier_learner
from textnb.models import AWD_LSTM
from textnb.panels import (drawing, panel as panel_module, MAPS, AttentionPanel, reduce_attention, Panel, open_panel, page_files, set_key,
    shading, sparkline, text_pieces, MethodBench, ordered, rank_matrix)
from textnb.explain.shading import _luminance

XSS = '<img src=x onerror=window.pwned=1>"\'><script>window.pwned=1</script>'
SMALL = dict(emb_sz=12, n_hid=16, n_layers=2)

def bunch(tmp, classes=('neg', 'pos')):
    r = np.random.default_rng(0)
    ws = 'the film was a great story of two people in one awful long night'.split()
    rows = [(classes[i%2], ' '.join(r.choice(ws, r.integers(3, 10)))) for i in range(40)]
    df = pd.DataFrame(rows, columns=['label', 'text'])
    return TextClasDataBunch.from_df(tmp, df[:30], df[30:], text_cols='text', label_cols='label', bs=8, min_freq=1, seed=0)

def learner(tmp, **kwargs):
    set_seed(0)
    return text_classifier_learner(bunch(tmp, **kwargs), AWD_LSTM, config=SMALL, pretrained=False, silent=True)

@pytest.fixture(scope='module')
def learn(tmp_path_factory): return learner(tmp_path_factory.mktemp('learn'))

@pytest.fixture(params=['core', 'ui'])
def clean(request, monkeypatch):
    "E1: with the extra `ui` and without; and the test leaves no widget behind that it did not find"
    if request.param=='core': monkeypatch.setitem(sys.modules, 'anywidget', None)
    else: pytest.importorskip('anywidget')
    from ipywidgets.widgets.widget import _instances
    before = set(_instances)
    yield
    for k in set(_instances)-before: _instances[k].close()

def rgb(s): return [int(s[i:i+2], 16) for i in (1, 3, 5)]
def contrast(a, b):
    hi,lo = sorted((_luminance(rgb(a)), _luminance(rgb(b))), reverse=True)
    return (hi+.05)/(lo+.05)

class Tags(HTMLParser):
    "The elements of a page, their attributes, and whether all are closed"
    def __init__(self, s):
        super().__init__()
        self.tags,self.attrs,self.open,self.text = set(),set(),[],''
        self.feed(s)
        self.close()
    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attrs |= {a for a,_ in attrs}
        if tag not in ('meta', 'line', 'polyline'): self.open.append(tag)
    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attrs |= {a for a,_ in attrs}
    def handle_endtag(self, tag): assert self.open.pop()==tag
    def handle_data(self, s): self.text += s

def check_html(s):
    "No script, no handler, nothing from elsewhere, every element closed"
    t = Tags(s)
    assert t.open==[]
    assert not t.tags&{'script', 'img', 'iframe', 'object', 'link', 'b1'}
    assert not [a for a in t.attrs if a.startswith('on')]
    assert not re.search(r'(?:src|href|url)\s*[=(]\s*["\']?https?:', s)
    return t

# The frame

def test_set_key_is_pure():
    "Law 9: a new state each time, the old one untouched; an unknown name is answered with those there are"
    old = dict(a=1, b=2)
    assert set_key(old, ('a', 3))==dict(a=3, b=2) and old==dict(a=1, b=2)
    with pytest.raises(KeyError, match='knows no .c.; it knows: a, b'): set_key(old, ('c', 1))

@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(max_size=5), st.one_of(st.none(), st.floats(-1, 1))), max_size=8))
def test_shading_shows_every_text(parts):
    "Whatever the pieces are, the text between the tags is theirs"
    t = check_html(shading([p for p,_ in parts], [s for _,s in parts]))
    for p,_ in parts:
        if p.strip().isalnum(): assert p.strip() in t.text

@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6), st.floats(-1, 1)), max_size=6))
def test_text_pieces_are_the_text(text, raw):
    "A11: the pieces joined are the text as it was written, whatever the spans are"
    spans = [(min(a, len(text)), min(a+n, len(text))) for a,n,_ in raw]
    parts,scores = text_pieces(text, spans, [s for *_,s in raw])
    assert ''.join(parts)==text and len(parts)==len(scores)
    assert all(s is None or -1<=s<=1 for s in scores)

@pytest.mark.parametrize('cmap', [None, *MAPS])
def test_contrast_of_shaded_words(cmap):
    "E3: every shaded word can be read on a light and on a dark page, whatever its score and the colour map"
    for s in np.linspace(-1, 1, 201):
        bg,fg = re.fullmatch(r'background-color:(#\w+);color:(#\w+|inherit)', drawing.word_style(float(s), cmap)).groups()
        for page,text in ('#ffffff', '#212121'), ('#212121', '#ffffff'), ('#111111', '#ffffff'), ('#1e1e1e', '#d4d4d4'), ('#383838', '#d5d5d5'):
            x = int(bg[7:], 16)/255 if len(bg)==9 else 1.
            mixed = '#'+''.join(f'{round(x*a+(1-x)*b):02x}' for a,b in zip(rgb(bg), rgb(page)))
            assert contrast(mixed, text if fg=='inherit' else fg)>=4.5, (s, page)

def test_sign_is_not_colour_alone():
    "E4: words against are underlined and have a minus in the tooltip; the legend has numbers"
    s = shading(['for', 'against', 'nothing'], [.5, -.5, 0.])
    assert s.count('underline dotted')==1 and 'title="-0.500"' in s and 'title="+0.500"' in s
    assert all(o in drawing.legend(2., True) for o in ('-2', '+2', 'against', 'for'))

def test_odd_numbers():
    "NaN, infinity, nothing at all: a drawing all the same"
    for vals in [], [float('nan')], [float('inf'), 0.], [.5]: check_html(sparkline(vals, 'p'))
    check_html(drawing.bars(['a'], [float('nan')]))
    check_html(shading(['a'], [float('nan')]))

class Count(Panel):
    "A panel whose work counts"
    inputs,kept = ('text',),('text',)
    render = staticmethod(lambda s: f'<p>{drawing.esc(s["text"])} {s["n"]}</p>')
    def __init__(self):
        self.n = 0
        super().__init__(dict(text='', other=0, n=0))
    def work(self, state):
        self.n += 1
        if 'boom' in state['text']: raise RuntimeError('a <b>boom</b>')
        return dict(n=len(state['text']))
    def controls(self): return [self.control('Textarea', 'text', 'Text', 'Type'), self.control('IntSlider', 'other', 'Other'), self.button('Go', 'text', value='gone')]

def parts(panel): return panel.widget.children[1:6]

def test_without_an_event_loop(clean):
    "E10: where nothing can be waited for, a control acts at once"
    with pytest.raises(RuntimeError): asyncio.get_running_loop()
    p = Count()
    text,other,go,body,status = parts(p)
    text.value = 'abc'
    assert p.state['n']==3 and 'abc 3' in body.value
    go.click()
    assert p.state['text']=='gone'==text.value
    n = p.n
    other.value = 5
    assert p.state['other']==5 and p.n==n, 'work is for its inputs alone'

def test_errors_are_visible(clean, caplog):
    "E8: an error in work, in a reducer or in a button is shown with its traceback, kept, and cleared by what goes well; nothing is only logged"
    p = Count()
    text,_,go,body,status = parts(p)
    text.value = 'boom'
    assert isinstance(p.error, RuntimeError) and body.value==''
    t = check_html(status.value)
    assert 'a <b>boom</b>' in t.text and 'Traceback' in t.text and 'b' in t.tags
    assert 'boom' in p.to_html() and check_html(p.to_html())
    text.value = 'fine'
    assert p.error is None and 'Traceback' not in status.value
    assert 'knows no' in str(p.send('nothing').error) and p.state['text']=='fine'
    p.render = lambda s: 1/0
    text.value = 'x'
    assert isinstance(p.error, ZeroDivisionError)
    assert caplog.records==[]

def typed(panel, letters, pause):
    "Type in a loop, as a browser would; the drawings one after the other, and seconds"
    text,*_,body,_ = parts(panel)
    seen = []
    body.observe(lambda ch: seen.append(int(re.search(r'data-seq="(\d+)"', ch['new'])[1])), 'value')
    async def go():
        start = asyncio.get_running_loop().time()
        for i in range(1, len(letters)+1):
            text.value = letters[:i]
            await asyncio.sleep(pause)
        secs = asyncio.get_running_loop().time()-start
        for _ in range(500):
            if seen and seen[-1]==panel.seq: break
            await asyncio.sleep(.01)
        return secs
    return asyncio.run(go()),seen

def test_typing_is_debounced(clean):
    "C1: few updates while typing, the last one for the last letter, none of an older state after a newer one"
    p,letters = Count(),'abcdefghij'*3
    n = p.n
    secs,seen = typed(p, letters, .01)
    assert p.state['n']==len(letters) and p.seq==len(letters)
    assert 1<=p.n-n<=2+secs/p.wait
    assert seen==sorted(seen) and seen[-1]==len(letters)

def test_stale_work_is_dropped(clean):
    "What was begun for an older state is not drawn after newer events"
    p = Count()
    drawn = []
    p.render = lambda s: drawn.append(s['text']) or s['text']
    def work(state):
        yield dict(n=1)
        if state['text']=='old': p.send('text', 'new')
        yield dict(n=2)
    p.work = work
    p.send('text', 'old')
    assert drawn==['old', 'new', 'new'] and p.state['n']==2 and p.error is None

def test_a_loop_that_is_gone(clean):
    "A timer of a loop that ended does not block the next one"
    p = Count()
    text = parts(p)[0]
    async def one(s): text.value = s
    asyncio.run(one('a'))
    asyncio.run(one('ab'))
    assert p.flush().state['n']==2
    text.value = 'abc'
    assert p.state['n']==3

def test_registry_does_not_grow(monkeypatch, clean):
    "E9: a cell that is run 50 times leaves the widgets of one panel; close leaves none"
    from ipywidgets.widgets.widget import _instances
    run = [0]
    shell = types.SimpleNamespace(get_parent=lambda: dict(metadata=dict(cellId='cell'), header=dict(msg_id=run[0])))
    monkeypatch.setattr('IPython.get_ipython', lambda: shell)
    start,sizes = len(_instances),[]
    for run[0] in range(1, 51):
        p = Count()
        p.widget
        sizes.append(len(_instances)-start)
    assert max(sizes)==sizes[0]
    for _ in range(200): p.send('text', 'x'*(_%7))
    assert len(_instances)-start==sizes[0]
    p.close()
    assert len(_instances)==start
    assert p.widget is not None and len(_instances)-start==sizes[0]
    p.close()
    panel_module._cells.clear()

def test_no_picker_is_kept(learn):
    "E9: the widget of anywidget is gone with its panel"
    pytest.importorskip('anywidget')
    p = AttentionPanel(learn, 'a great film')
    kept = [weakref.ref(w) for w in panel_module._family(p.widget) if type(w).__name__=='Picker']
    p.close()
    gc.collect()
    assert [o() for o in kept]==[None]

class Slide(Panel):
    "A panel with two sliders"
    def __init__(self): super().__init__(dict(n=3, stretch=(1, 2)))
    def controls(self): return [self.row(self.control('IntSlider', 'n', 'How many'), self.control('IntRangeSlider', 'stretch', 'From, to'))]

def test_names_of_sliders(clean):
    "E1, E9: with the extra a panel with sliders has one widget more, which goes with it; one without sliders has none"
    p,q = Slide(),Panel({})
    kinds = [type(w).__name__ for w in panel_module._family(p.widget)]
    assert kinds.count('SliderNames')==(sys.modules.get('anywidget', 0) is not None)
    assert 'SliderNames' not in [type(w).__name__ for w in panel_module._family(q.widget)]
    kept = [weakref.ref(w) for w in panel_module._family(p.widget) if type(w).__name__=='SliderNames']
    p.widget.children[1].children[0].value = 7
    assert p.flush().state['n']==7 and p.error is None
    p.close()
    gc.collect()
    assert not [o for o in kept if o()]

def test_two_panels_of_one_cell(monkeypatch, clean):
    "Panels made by the same run of a cell live side by side"
    shell = types.SimpleNamespace(get_parent=lambda: dict(metadata=dict(cellId='two'), header=dict(msg_id=1)))
    monkeypatch.setattr('IPython.get_ipython', lambda: shell)
    a,b = Count(),Count()
    a.widget, b.widget
    assert a._ui and b._ui
    panel_module._cells.clear()

def test_state_survives(tmp_path, clean):
    "E12: what the user set is taken up again after a restart; a file of something else is refused"
    p = Count().keep(tmp_path/'p.json')
    p.send('text', 'kept').send('other', 3)
    assert json.loads((tmp_path/'p.json').read_text())==dict(panel='Count', state=dict(text='kept'))
    q = Count().keep(tmp_path/'p.json')
    assert q.state['text']=='kept' and q.state['n']==4
    for bad in '[]', '{"panel": "Other", "state": {}}', '{"panel": "Count", "state": 3}':
        (tmp_path/'bad.json').write_text(bad)
        with pytest.raises(ValueError, match='no state of a Count'): Count().restore(tmp_path/'bad.json')

def test_core_widgets_only(learn, clean):
    "E1, E2: widgets of the core set (and, with the extra, the one that draws nothing), none of them an Output, and HTML that asks for nothing from elsewhere"
    for p in AttentionPanel(learn, 'a great film'), MethodBench(learn, 'a great film', methods=['lrp']):
        ws = list(panel_module._family(p.widget))
        more = [w for w in ws if type(w).__name__=='Picker']
        assert len(more)==(isinstance(p, AttentionPanel) and sys.modules.get('anywidget', 0) is not None)
        ws = [w for w in ws if w not in more]
        assert {w._model_module for w in ws}<={'@jupyter-widgets/base', '@jupyter-widgets/controls'}
        assert not [w for w in ws if type(w).__name__=='Output']
        for w in ws:
            if type(w).__name__=='HTML': check_html(w.value)
            if hasattr(w, 'description') and type(w).__name__!='HTML': assert w.description and w.tooltip, 'a control without a name'

def test_bundle(learn, clean):
    "C10: one display has the widget, the same as HTML for pages without Python, and a line of text"
    b = AttentionPanel(learn, 'a great film')._repr_mimebundle_()
    assert {'application/vnd.jupyter.widget-view+json', 'text/html', 'text/plain'}<=set(b)
    assert 'great' in b['text/html'] and b['text/plain'].startswith('AttentionPanel: ')

def test_page_asks_no_other_host():
    "E2: the files that Voila shows name no other host"
    assert not any('http' in o or 'cdn' in o for o in page_files('1').values())

# The attention panel

def test_attention_shows_the_record(learn, clean):
    "C1: bars, curve and shading are those of the functions that Python calls"
    p = AttentionPanel(learn, 'A great film, an awful night')
    names,probs,on = p.state['bars']
    np.testing.assert_allclose(probs, learn.predict(p.state['text'])[2].numpy(), atol=1e-5)
    assert names==['neg', 'pos'] and on==int(np.argmax(probs))
    a = attribute(learn, p.state['text'], p.state['method'])
    np.testing.assert_allclose(p.state['record'].scores, a.scores, atol=1e-5)
    assert len(p.state['running'])==len(a.tokens)
    for i in 2, 4: np.testing.assert_allclose(p.state['running'][i], learn.predict_ids([a.ids[:i+1]])[0][on].item(), atol=1e-5)
    b = AttentionPanel(learn, 'A great film, an awful night', 'gradient x input', class_id='neg', target='logit', view='tokens')
    assert (b.state['record'].target_name, b.state['record'].target_kind)==('neg', 'logit')
    np.testing.assert_allclose(b.state['record'].scores, attribute(learn, b.state['text'], 'gradient x input', 'neg', 'logit').scores, atol=1e-6)

def test_attention_typing(learn, clean):
    "C1: typed letter by letter, the last picture is that of the whole text asked at once"
    p,text = AttentionPanel(learn),'two people in one awful night, <b>great</b>'
    secs,seen = typed(p, text, .01)
    assert p.error is None and seen==sorted(seen)
    assert p.render(p.state)==AttentionPanel(learn, text).render(p.state)
    np.testing.assert_allclose(p.state['record'].scores, AttentionPanel(learn, text).state['record'].scores, atol=1e-6)

def test_every_choice(learn, clean):
    "Each method, target, view and map draws; what one chooses is in the caption"
    p = AttentionPanel(learn, 'two people in one awful night')
    p.widget
    for k in 'method', 'target', 'baseline', 'view', 'cmap', 'sign', 'explained', 'token':
        for _,v in p.choices(p.state)[k]:
            p._controls[k].value = v
            assert p.error is None, (k, v, p.error)
            if k=='method': assert v in p.to_html()
    p.send('method', 'integrated gradients').send('baseline', 'mean')
    assert p.state['record'].baseline=='mean' and drawing.esc(p.state['record'].caption()) in p.to_html()
    p.send('explained', 'neg').send('rival', 'pos')
    assert p.error is None and 'neg and not pos' in p.to_html()

def test_gamma_and_sign(learn, clean, monkeypatch, tmp_path):
    "C1: gamma and sign change the drawing, its legend and its pictures, ask the model nothing, leave the numbers as they are, and are kept"
    p = AttentionPanel(learn, 'two people in one awful night, a great film')
    before,html = {k: f() for k,(_,f) in p.files().items()},p.to_html()
    monkeypatch.setattr(p, 'work', lambda state: 1/0)
    p.widget
    p._controls['gamma'].value = .25
    p._controls['sign'].value = 'against'
    after = {k: f() for k,(_,f) in p.files().items()}
    assert p.error is None and p.to_html()!=html and 'drawn: against only, gamma 0.25' in p.to_html()
    assert {k for k in after if after[k]==before[k]}=={'.csv', '.json'}
    scored = lambda s: re.findall(r'<span title="([+-][\d.]+)"(?: style="background-color:(#\w+))?', s.split('tnb-text">')[1].split('</div>')[0])
    assert [t for t,_ in scored(p.to_html())]==[t for t,_ in scored(html)]
    assert {float(t)<0 for t,bg in scored(p.to_html()) if bg}=={True} and {float(t)>0 for t,bg in scored(html) if bg}=={True, False}
    top = np.abs(p.state['record'].words().scores).max()
    assert all(f'>-{top*x**4:.3g}<' in p.to_html() for x in (1, .75, .5, .25))
    p.save(tmp_path/'p.json')
    q = AttentionPanel(learn).restore(tmp_path/'p.json')
    assert (q.state['gamma'], q.state['sign'])==(.25, 'against')
    assert AttentionPanel(learn, p.state['text'], gamma=.25, sign='against').to_html()==p.to_html()
    assert p.send('gamma', 1).send('sign', 'both').to_html()==html
    assert 'gamma is a number' in str(p.send('gamma', 0).error)

def test_the_drawing_comes_before_the_menu(learn, clean):
    "C1: a key is answered by the drawing; the list of words to take out is filled after it"
    p,order = AttentionPanel(learn, 'a great film'),[]
    p.widget
    p._ui['body'].observe(lambda _: order.append('drawing'), 'value')
    p._controls['token'].observe(lambda _: order.append('menu'), '_options_labels')
    p._controls['text'].value = 'a great film, an awful night'
    assert order==['drawing','menu'] and [k for _,k in p.choices(p.state)['token']]==[-1, *range(len(p.state['rows'].tokens))]
    p.close()

def test_a_method_without_signs(learn, clean):
    "Where scores have no sign, the choice of one changes nothing"
    p = AttentionPanel(learn, 'two people in one awful night', 'gradient norm')
    html = p.to_html()
    assert p.send('sign', 'against').to_html()==html

@pytest.mark.parametrize('view', ['words', 'tokens', 'sentences'])
def test_without_a_piece(learn, clean, view):
    "Each piece that can be chosen is the one that is taken out; the explanation is not computed again, and another text forgets the choice"
    p = AttentionPanel(learn, 'two people. In one awful night, a great film', 'occlusion', view=view)
    p.widget
    a,calls = p.state['record'],[]
    p.live.update = lambda *args, **kwargs: calls.append(args)
    rows = a if view=='tokens' else a.words() if view=='words' else a.sentences()
    groups = rows.details.get('groups', [[i] for i in range(len(a.tokens))])
    assert [k for _,k in p.choices(p.state)['token']]==[-1, *range(len(rows.tokens))]
    for i,g in enumerate(groups):
        p._controls['token'].value = i
        assert p.error is None and calls==[]
        gone = [t for t in g if a.tokens[t]!='xxbos']
        if not gone: continue
        want = learn.predict_ids([np.delete(a.ids, gone)])[0][a.target].item()
        np.testing.assert_allclose(p.state['check']['after'], want, atol=1e-5)
        on = re.search(r'data-pick="(\d+)" class="tnb-on">([^<]+)<', p.to_html())
        assert int(on[1])==i and (on[2] in rows.tokens[i] or view=='tokens')
    assert p.send('token', -1).state['check'] is None and 'class="tnb-on">' not in p.to_html().split('tnb-text')[1].split('</div>')[0]
    del p.live.update
    p.send('token', 1).send('text', 'a film')
    assert p.state['token']==-1 and p.error is None and 'no piece 99' in str(p.send('token', 99).error)

def test_the_choice_of_a_long_text(learn, clean):
    "The menu holds the strongest hundred pieces, and the one that was chosen"
    p = AttentionPanel(learn, 'the film was a great story '*40)
    ks = [k for _,k in p.choices(p.state)['token']]
    assert len(ks)==101
    other = next(i for i in range(200) if i not in ks)
    p.widget
    assert p.send('token', other).error is None and p._controls['token'].value==other

def test_the_baseline_follows_the_method(learn):
    "A12: a baseline that a method does not know is replaced by one that it does"
    p = AttentionPanel(learn, 'a film', 'occlusion', baseline='unk')
    assert p.state['baseline']=='unk'
    assert p.send('method', 'gradient x input').state['baseline']==''
    assert p.send('method', 'integrated gradients').state['baseline']=='zero'

@pytest.mark.parametrize('text', ['', 'film', 'zzz qqq', '  \n\t ', 'ÄÖ 你好 😀', XSS, 'a<b>&c', 'xxbos xxpad', '\ud800', 'x'*300])
def test_odd_texts(learn, clean, text):
    "Empty, one token, unknown words only, blanks, other scripts, markup, half a character"
    p = AttentionPanel(learn, text)
    assert p.error is None
    p.widget
    for view in 'words', 'tokens', 'sentences':
        t = check_html(p.send('view', view).to_html())
        assert p.error is None
        if view=='words' and text==XSS: assert XSS in t.text
    check_html(p.send('numbers', True).send('files').render(p.state))

def test_long_text(learn, clean):
    "2,000 tokens: tokens by gradients, sentences where each piece is a question"
    text = 'the film was a great story . '*285
    for m in 'lrp', 'gradient x input', 'occlusion':
        p = AttentionPanel(learn, text, m)
        assert p.error is None and p.state['record'].method==m
    assert len(p.to_html())<2e6

def test_markup_in_labels(tmp_path, clean):
    "E7: a class called <img …> is shown as it is called, and does nothing"
    learn = learner(tmp_path, classes=(XSS, 'pos'))
    for p in AttentionPanel(learn, XSS, class_id=XSS), MethodBench(learn, XSS, methods=['lrp'], class_id=XSS):
        assert p.error is None
        p.widget
        t = check_html(p.send('numbers', True).to_html())
        assert XSS in t.text
        check_html(p.send('files').render(p.state))

def test_wrong_names(learn):
    "A class, a method, a baseline that is not there: one line that says which are"
    with pytest.raises(ValueError, match="no class 'maybe': there are neg, pos"): AttentionPanel(learn, 'a', class_id='maybe')
    with pytest.raises(ValueError, match="AWD_LSTM has no method 'attention rollout'.*there are 'intrinsic attention'"): AttentionPanel(learn, 'a', 'attention rollout')
    with pytest.raises(ValueError, match="no baseline 'x': there are zero"): AttentionPanel(learn, 'a', 'integrated gradients', baseline='x')
    with pytest.raises(ValueError, match="no method 'x'"): MethodBench(learn, 'a', methods=['x'])

def test_weights_that_are_nan(tmp_path, clean):
    "NaN in the weights is said in the panel, and the panel goes on when they are sound again"
    learn = learner(tmp_path)
    p = AttentionPanel(learn, 'a film')
    p.widget
    w = next(learn.model[1].parameters())
    old = w.detach().clone()
    with torch.no_grad(): w.fill_(float('nan'))
    assert 'NaN' in str(p.send('text', 'a great film').error) and 'NaN' in p._ui['status'].value
    with torch.no_grad(): w.copy_(old)
    assert p.send('text', 'a great film again').error is None

def test_reducer_is_pure(learn):
    "Law 9: reducing changes no state, and the same events give the same state"
    p = AttentionPanel(learn, 'a film')
    events = [('token', 1), ('gamma', .5), ('sign', 'for'), ('text', 'x'), ('method', 'occlusion'), ('baseline', 'pad'), ('files', None), ('view', 'tokens'), ('explained', 'neg'), ('numbers', True)]
    def run(s):
        for e in events: s = reduce_attention(s, e)
        return s
    old = dict(p.state)
    assert run(p.state)==run(p.state) and p.state==old
    assert run(p.state)['links'] is False

def test_files(learn, tmp_path, clean):
    "E6: a page that stands alone and is small, a picture of the same bytes each time, JSON that reads back as the same record"
    p = AttentionPanel(learn, ' '.join(['a great film , two people and one awful night']*10))
    html = p.export(tmp_path/'a.html').read_text(encoding='utf-8')
    check_html(html.replace('<!doctype html>', ''))
    assert len(html)<=200_000*len(p.state['record'].tokens)/100
    p.send('text', 'a great film')
    assert p.export(tmp_path/'a.png').read_bytes()==p.export(tmp_path/'b.png').read_bytes()
    a = p.send('view', 'tokens').state['record']
    assert Attribution.from_json(p.export(tmp_path/'a.json').read_text(encoding='utf-8'))==a
    assert len(pd.read_csv(p.export(tmp_path/'a.csv')))==len(a.tokens)
    with pytest.raises(ValueError, match='writes .html'): p.export(tmp_path/'a.pdf')
    links = re.findall(r'download="attention(\.\w+)" href="data:', p.send('files').render(p.state))
    assert links==['.html', '.png', '.csv', '.json', '.tex']

def test_panel_from_a_file(learn, tmp_path, clean):
    "`textnb panel` opens the panel of an exported model; the baseline of the corpus, which an export has not, is not on offer"
    learn.export(tmp_path/'model.tnb')
    p = open_panel('attention', tmp_path/'model.tnb', text='a great film')
    np.testing.assert_allclose(p.state['bars'][1], learn.predict('a great film')[2].numpy(), atol=1e-5)
    assert 'corpus' not in p.facts['baselines']['integrated gradients'] and 'corpus' in AttentionPanel(learn).facts['baselines']['integrated gradients']

def test_language_model(tmp_path, clean):
    "Which earlier words made the next one likely"
    df = pd.DataFrame(dict(label=0, text=['the film was a great story of two people']*20))
    data = TextLMDataBunch.from_df(tmp_path, df, df, text_cols='text', label_cols='label', bs=4, bptt=8, min_freq=1)
    lm = language_model_learner(data, AWD_LSTM, config=SMALL, pretrained=False, silent=True)
    p = AttentionPanel(lm, 'the film was', class_id='great')
    p.widget
    assert p.error is None and p.state['record'].target_name=='great' and 'great' in p.to_html()
    p._controls['explained'].value = 'grea'
    assert "no word 'grea'" in str(p.flush().error)
    with pytest.raises(NotImplementedError, match='classifier'): MethodBench(lm, 'the')

@pytest.mark.parametrize('arch', ['AWD_QRNN', 'Transformer', 'TransformerXL'])
def test_architectures(tmp_path, clean, arch):
    "Every architecture has a panel, with the methods that work for it"
    from textnb.models import build
    small = dict(ctx_len=64, n_layers=1, n_heads=2, d_model=16, d_head=8, d_inner=32)
    name,config = ('AWD_LSTM', dict(SMALL, qrnn=True)) if arch=='AWD_QRNN' else (arch, small)
    l = text_classifier_learner(bunch(tmp_path), getattr(build, name), config=config, pretrained=False, silent=True)
    p = AttentionPanel(l, 'a great film')
    assert p.error is None
    np.testing.assert_allclose(p.state['bars'][1], l.predict('a great film')[2].numpy(), atol=1e-5)
    assert p.send('method', 'integrated gradients').error is None

# The method bench

def test_bench_numbers(learn, clean):
    "C4: chips are those of `faithfulness`, the matrix is symmetric with ones on its diagonal, sorting is by value"
    b = MethodBench(learn, 'two people in one awful night', methods=['lrp', 'occlusion', 'gradient norm'])
    assert b.error is None and len(b.state['rows'])==3
    for (a,f),m in zip(b.state['rows'], ('lrp', 'occlusion', 'gradient norm')):
        want = faithfulness(learn, attribute(learn, b.state['text'], m), points=0)
        assert a.method==m and {k: str(s) for k,s in f.scores.items()}=={k: str(s) for k,s in want.scores.items()}
    m = rank_matrix(b.state)
    assert (m==m.T).all() and (np.diag(m)==1).all() and np.abs(m).max()<=1
    for key,sign in ('comp', 1), ('suff', -1), ('log_odds', -1):
        vals = [f.scores[key].value*sign for _,f in ordered(b.send('sort', key).state)]
        assert vals==sorted(vals, reverse=True)
    t = check_html(b.send('ranks', 'kendall').send('numbers', True).to_html())
    assert 'random' in t.text and 'kendall' in t.text and 'never saw in training' in t.text

def test_bench_keeps_what_it_knows(learn, clean, monkeypatch):
    "A method that was computed for this text is not computed again"
    calls,old = [],attribute
    monkeypatch.setattr('textnb.panels.methods.attribute', lambda *a, **k: calls.append(a[2]) or old(*a, **k))
    b = MethodBench(learn, 'two people', methods=['lrp'])
    b.send('methods', ['lrp', 'occlusion']).send('sort', 'comp').send('methods', ['occlusion'])
    assert calls==['lrp', 'occlusion']
    b.send('mode', 'unk')
    assert calls==['lrp', 'occlusion', 'occlusion'] and b.state['rows'][0][1].mode=='unk'

@pytest.mark.parametrize('text', ['', 'film', XSS])
def test_bench_odd_texts(learn, clean, text):
    b = MethodBench(learn, text)
    assert b.error is None
    check_html(b.to_html())
    assert b.send('methods', ()).error is None and 'Choose a method' in b.to_html()

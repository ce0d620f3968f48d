"The table of top losses: what it selects, shows and opens, beside pandas and plain loops"
import re

import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from textnb.all import *
from textnb.explain import text_vectors
from textnb.panels import *
from test_learner import clas_data, small

N = 1000
WORDS = 'the film was a story of two people in one long night But great awful <b>bold</b> & "quoted" 😀'.split()

def fake(n, n_class=3, seed=0, words=12):
    "An interpretation of `n` texts with random probabilities: no model is asked"
    r = np.random.default_rng(seed)
    texts = [' '.join(r.choice(WORDS, r.integers(1, words)))+f' {i}' for i in range(n)]
    df = pd.DataFrame(dict(label=r.choice(['neg', 'pos', '<i>'][:n_class], n), text=texts))
    data = TextClasDataBunch.from_df('.', df[:40], df, text_cols='text', label_cols='label', min_freq=1, bs=16)
    learn = text_classifier_learner(data, AWD_LSTM, config=small, pretrained=False, silent=True)
    p = r.dirichlet(np.ones(n_class), n).astype(np.float32)
    res = TextClassificationInterpretation.from_preds(learn, p, DatasetType.Valid)
    return res, df

@pytest.fixture(scope='module')
def big(): return fake(N)

@pytest.fixture
def panel(big): return TopLossPanel(big[0])

views = st.fixed_dictionaries({}, optional=dict(text=st.sampled_from(['', 'but', 'GREAT', '<b>', '😀', 'nowhere', '1']), actual=st.sampled_from([None, 0, 1, 2]),
    predicted=st.sampled_from([None, 0, 1, 2]), show=st.sampled_from(['all', 'wrong', 'right', 'odd']), loss=st.tuples(st.floats(0, 2), st.floats(2, 9)),
    prob=st.tuples(st.floats(0, .5), st.floats(.5, 1)), sort=st.sampled_from(['loss', 'prob', 'confidence', 'margin', 'n_words', 'actual', 'row', 'text']), down=st.booleans()))

CACHE = {}

@settings(max_examples=60, deadline=None)
@given(view=views)
def test_rows_are_those_of_pandas(view):
    "Goal C2: every control's rows equal a pandas oracle, with 1,000 rows"
    interp,df = CACHE.setdefault('big', fake(N))
    if 'why' not in CACHE: CACHE['why'] = interp.reasons()
    f = interp.facts.assign(text=df.text.to_numpy(), reason=CACHE['why'])
    if view.get('text'): f = f[f.text.str.casefold().str.contains(view['text'].casefold(), regex=False)]
    for c in ('actual', 'predicted'):
        if view.get(c) is not None: f = f[f[c]==view[c]]
    if view.get('show') in ('wrong', 'right'): f = f[(f.actual!=f.predicted)==(view['show']=='wrong')]
    if view.get('show')=='odd': f = f[f.reason!='']
    for c in ('loss', 'prob'):
        if c in view: f = f[f[c].between(*view[c])]
    down,by = view.get('down', True),view.get('sort', 'loss')
    if by=='row': want = f.sort_index(ascending=not down).index.tolist()
    else: want = f.sort_values(by, ascending=not down, kind='stable').index.tolist()
    got = select_rows(interp.facts, view, interp.search_text, lambda: CACHE['why']).tolist()
    assert got==want or (sorted(got)==sorted(want) and f.loc[got, by].tolist()==f.loc[want, by].tolist())

@pytest.mark.parametrize('pat', ['^the', r'\bgreat\b.*awful', 'BUT|night', r'\d{3}$'])
def test_regex(big, pat):
    "Goal C2: a regular expression finds what pandas finds, capitals or not"
    interp,df = big
    got = select_rows(interp.facts, dict(text=pat, regex=True, sort='row', down=False), interp.search_text).tolist()
    assert got==df.index[df.text.str.contains(pat, flags=re.I)].tolist()

def test_pages(panel):
    "Goal C2: pages cut the selection without a gap; show more and jumps stay inside"
    sel,seen = panel.to_frame().index.tolist(),[]
    for _ in range(N//10):
        seen += [r['row'] for r in panel.state['rows']]
        panel.send('turn', 1)
    assert seen==sel and panel.state['page']==N//10-1
    assert panel.send('page', 36).state['rows'][0]['row']==sel[360]
    panel.send('more')
    assert len(panel.state['rows'])==20 and sel[360] in [r['row'] for r in panel.state['rows']]
    assert panel.send('turn', -10**9).state['page']==0 and panel.error is None

def test_rows_match_texts(big):
    "Goal C2 and fastai#2183: the loader goes from long to short, the rows are those of the data set all the same"
    interp,df = big
    panel = TopLossPanel(interp, size=100)
    for r in panel.state['rows']:
        assert ''.join(r['text']).rstrip(' …')==' '.join(df.text[r['row']].split()) and r['actual']==df.label[r['row']]
        assert abs(r['loss']+np.log(interp.preds[r['row']][interp.data.classes.index(r['actual'])].item()))<1e-4

def test_few_widgets(panel):
    "Goal C2: a page of ten rows takes at most 60 live widgets, and pages add none"
    from ipywidgets.widgets.widget import _instances
    n = len(_instances)
    w = panel.widget
    def family(o): return 1+sum(map(family, getattr(o, 'children', ())))
    assert family(w)<=60
    made = len(_instances)
    for _ in range(200): panel.send('turn', 1 if _%2 else -1)
    assert len(_instances)<=made+5
    panel.send('size', 50)
    panel.send('size', 10)
    assert len(_instances)<=made+5
    panel.close()
    assert len(_instances)<=n+5

def test_time(panel):
    "Goal C2: turning a page changes one page of rows and asks for no others"
    asked,at = [],panel.interp.text_of
    panel.interp.text_of = lambda i: asked.append(i) or at(i)
    try: panel.send('turn', 1)
    finally: del panel.interp.text_of
    assert asked==[r['row'] for r in panel.state['rows']]

@pytest.mark.parametrize('n_class', [2, 3])
def test_confusion_cells(n_class):
    "Goal C7: a press on cell (i, j) shows exactly those rows, a second one all again"
    interp,df = fake(90, n_class, seed=1)
    panel = TopLossPanel(interp, size=100)
    panel.widget
    for (i,j),b in panel._cells.items():
        b.click()
        want = [k for k in range(90) if (int(interp.y_true[k]), int(interp.pred_class[k]))==(i,j)]
        assert sorted(r['row'] for r in panel.state['rows'])==want and b.description==str(len(want))
        b.click()
        assert panel.state['total']==90
    panel.close()

def test_many_classes():
    "With more than six classes, the pairs that are most often confused"
    cm = np.arange(64).reshape(8, 8)
    pairs = confusion_pairs(cm, [str(i) for i in range(8)])
    assert len(pairs)==12 and pairs[0][:2]==(7, 6) and pairs[0][2]=='7 → 6: 62'

@pytest.fixture(scope='module')
def real(tmp_path_factory):
    "A real learner, untrained, with larger weights"
    set_seed(0)
    l = text_classifier_learner(clas_data(tmp_path_factory.mktemp('c')), AWD_LSTM, config=small, pretrained=False, silent=True)
    with torch.no_grad():
        for p in l.model.parameters(): p.mul_(2)
    return l.interpret()

def test_open_row(real):
    "Goal C3: the shading of that row, the nearest training texts of brute force, and the probability that the model gives without the words"
    panel = TopLossPanel(real)
    row = panel.state['rows'][7]['row']
    d = panel.send('open', row).state['drawer']
    assert panel.error is None and d['row']==row and d['text']==real.text_of(row)
    a = real.attribution(d['text'], int(real.pred_class[row]), 'gradient x input').words()
    assert d['pieces']==a.tokens and np.allclose(d['values'], a.scores)
    tr = real.data.train_ds
    v = np.concatenate([text_vectors(real.learn, [tr.store[i]]) for i in range(len(tr))])
    q = text_vectors(real.learn, [real.ds.store[row]])[0]
    cos = v@q
    assert np.allclose([o[2] for o in d['near']], np.sort(cos)[::-1][:5], atol=1e-5)
    assert all(abs(cos[i]-c)<1e-5 and t==tr.raw_text(i) for i,_,c,t in d['near'])
    o = real.occlude(d['text'], 3, a.target, 'gradient x input')
    rest = np.delete(real.data.encode(d['text']), o['positions'])
    assert len(o['positions'])<=3 and abs(d['without']['after']-real.learn.predict_ids([rest])[0][a.target].item())<1e-5
    assert abs(d['without']['before']-real.preds[row][a.target].item())<1e-5

def test_open_button(real):
    "Goal C3: the button of a row opens it and closes it"
    panel = TopLossPanel(real, size=5)
    panel.widget
    b = panel._ui['rows'].children[2]
    b.click()
    assert panel.state['drawer']['row']==panel.state['rows'][2]['row'] and b.description.startswith('▾') and 'Nearest training' in panel._ui['body'].value
    b.click()
    assert panel.state['drawer'] is None and b.description.startswith('▸') and panel.error is None
    panel.close()

def test_harmless(big):
    "Goal E7: markup in texts, labels and what one looks for stays text, here and in the page"
    interp,_ = big
    panel = TopLossPanel(interp, text='<b>bold', size=20)
    html = panel.to_html()
    assert panel.state['total'] and '<b>bold' not in html and '&lt;b&gt;bold' in html and '<i>' not in html and '<script' not in html
    assert not re.search(r'https?://', html.replace(STYLE, ''))

def test_static_twin(big):
    "Goal C10: one line gives the table as HTML without a widget"
    interp,_ = big
    html = TopLossPanel(interp, show='wrong', size=3).to_html()
    assert html.count('<tr')==1+3+1+3 and 'Confusion matrix' in html and 'Why it is here' in html
    b = TopLossPanel(interp)._repr_mimebundle_()
    assert 'application/vnd.jupyter.widget-view+json' in b and '<table' in b['text/html']

def test_errors_show(panel):
    "Goal E8: what goes wrong is shown and kept, and the state stays"
    panel.widget
    panel.send('regex', True).send('text', '(')
    assert isinstance(panel.error, ValueError) and 'regular expression' in panel._ui['status'].value and panel.state['text']==''
    assert panel.send('text', 'great').error is None
    panel.send('nix', 1)
    assert isinstance(panel.error, KeyError)
    panel.interp.text_of = lambda i: 1/0
    try: assert isinstance(panel.send('turn', 1).error, ZeroDivisionError) and 'ZeroDivisionError' in panel._ui['status'].value
    finally: del panel.interp.text_of
    panel.close()

def test_restored(big, tmp_path):
    "Goal E12: the view comes back after a restart"
    TopLossPanel(big[0]).keep(tmp_path/'p.json').send('text', 'great').send('show', 'wrong').send('turn', 1)
    again = TopLossPanel(big[0]).keep(tmp_path/'p.json')
    assert (again.state['text'], again.state['show'], again.state['page'])==('great', 'wrong', 1) and again.error is None

def test_export(big, tmp_path):
    "The rows as CSV, the page as HTML"
    panel = TopLossPanel(big[0], text='night')
    df = pd.read_csv(panel.export(tmp_path/'a.csv'), index_col='row')
    assert df.index.tolist()==panel.to_frame().index.tolist()
    assert panel.export(tmp_path/'a.html').read_text(encoding='utf-8').startswith('<!doctype')

def test_not_a_number():
    "Weights gone wrong: rows with no number come first, and nothing breaks"
    f = pd.DataFrame(dict(actual=[0,1,0], predicted=[0,1,1], loss=[1., np.nan, 2.], prob=[.5, np.nan, .1]))
    assert select_rows(f, {}, str).tolist()==[1,2,0] and select_rows(f, dict(down=False), str).tolist()==[1,0,2]
    assert select_rows(f, dict(loss=(0,9)), str).tolist()==[2,0]

def test_many_rows():
    "Issue 3: 25,000 rows are opened and turned without asking for more than a page of texts"
    interp,_ = fake(25_000, 2, words=6)
    asked,at = [],interp.text_of
    interp.text_of = lambda i: asked.append(i) or at(i)
    panel = TopLossPanel(interp)
    panel.send('turn', 1)
    assert len(asked)==20 and panel.state['n']==25_000

def texts(interp): return len(interp.data.train_ds)

def test_parts_of_a_row(real):
    "Shading and check come first, then how far the reading is, the neighbours of brute force last; a second row has all at once"
    interp = real.learn.interpret()
    first,*between,last = row_parts(interp, 3)
    assert first['pieces'] and first['without'] and not first['near'] and first['reading']==(0,texts(interp))
    told = [d['reading'][0] for d in between if d]
    assert told==sorted(set(told)) and all(d['pieces']==first['pieces'] and not d['near'] for d in between if d)
    assert last['reading'] is None and {**first, 'reading':None, 'near':last['near']}==last
    tr = interp.data.train_ds
    cos = np.concatenate([text_vectors(interp.learn, [tr.store[i]]) for i in range(len(tr))])@text_vectors(interp.learn, [interp.ds.store[3]])[0]
    assert np.allclose([o[2] for o in last['near']], np.sort(cos)[::-1][:5], atol=1e-5) and all(abs(cos[o[0]]-o[2])<1e-5 for o in last['near'])
    assert len([*row_parts(interp, 4)])==1
    assert [o[0] for o in open_row(interp, 3)['near']]==[o[0] for o in last['near']]

def slowly(interp, monkeypatch):
    "Let `interp` read one training text at a time, and note which"
    from textnb.explain import VectorFile
    seen,read = [],VectorFile.read
    def one(self, seconds=None):
        self.tokens = 1
        a = self.done
        read(self, 1e-9)
        seen.extend(self.order[a:self.done].tolist())
    monkeypatch.setattr(VectorFile, 'read', one)
    return seen

def test_an_event_stops_the_reading(real, monkeypatch):
    "In an event loop a click is answered while the training texts are read; nothing is read twice, and the row in which it ends has its neighbours"
    import asyncio
    interp,drawn = real.learn.interpret(),[]
    seen,n = slowly(interp, monkeypatch),texts(interp)
    panel = TopLossPanel(interp, size=5)
    panel.widget
    rows = [r['row'] for r in panel.state['rows']]
    paint = panel._paint
    panel._paint = lambda: (paint(), drawn.append(panel.state['drawer']))
    async def until(ok):
        for _ in range(3000):
            if ok(): return
            await asyncio.sleep(.005)
        raise AssertionError('it never came')
    async def go():
        panel._ui['rows'].children[0].click()
        assert not seen and panel.state['row']==rows[0], 'a click itself reads nothing'
        await until(lambda: len(seen)>3)
        assert 'reading the training texts: ' in panel._ui['body'].value and panel.state['drawer']['row']==rows[0]
        panel._ui['rows'].children[1].click()
        at = len(seen)
        assert at<n
        await until(lambda: panel.state['drawer'] and panel.state['drawer']['row']==rows[1])
        assert len(seen)-at<5
        await until(lambda: panel.state['drawer']['near'])
    asyncio.run(go())
    order = [d['row'] for d in drawn if d]
    assert order==sorted(order, key=rows.index) and panel.error is None
    assert sorted(seen)==list(range(n)), 'each text once'
    assert panel.state['drawer']['near']==open_row(interp, rows[1])['near'] and 'reading the training texts' not in panel._ui['body'].value
    panel.close()

def test_reading_follows_the_weights(real, monkeypatch):
    "Weights that change halfway: everything is read anew, with the new ones"
    interp = real.learn.interpret()
    seen,n = slowly(interp, monkeypatch),texts(interp)
    reading = interp.read_train(.1)
    for _ in range(4): next(reading)
    assert len(seen)==3
    with torch.no_grad(): next(interp.learn.model.parameters()).mul_(1.)
    assert [*reading]==list(range(n)) and sorted(seen[3:])==list(range(n))

def test_closed_while_reading(real, monkeypatch):
    "A panel that is closed stops reading; shown again, it goes on with its next event"
    import asyncio
    interp = real.learn.interpret()
    seen,n = slowly(interp, monkeypatch),texts(interp)
    panel = TopLossPanel(interp, size=5)
    panel.widget
    async def go():
        panel._ui['rows'].children[0].click()
        while len(seen)<3: await asyncio.sleep(.005)
        panel.close()
        at = len(seen)
        await asyncio.sleep(.1)
        assert at<=len(seen)<=at+1<n
    asyncio.run(go())
    assert panel.flush().state['drawer']['near'] and sorted(seen)==list(range(n))
    assert 'Nearest training' in panel.to_html() and 'reading the training texts' not in panel.to_html()

def test_a_row_that_is_gone(real, tmp_path):
    "A saved panel may name a row of a larger table: the panel says so, and other rows open"
    interp = real.learn.interpret()
    panel = TopLossPanel(interp, size=5)
    panel.send('open', panel.state['rows'][0]['row']).save(tmp_path/'p.json')
    f = tmp_path/'p.json'
    f.write_text(f.read_text().replace(f'"row": {panel.state["row"]}', '"row": 100000'))
    other = TopLossPanel(interp, size=5)
    other.restore(f)
    assert 'there is no row 100000' in str(other.error)
    assert other.send('open', other.state['rows'][1]['row']).error is None and other.state['drawer']['near']

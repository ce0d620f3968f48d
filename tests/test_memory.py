"The memory view of language models: which words count, and where they are"
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from textnb.all import *
from textnb.explain import attribute, methods_of, memory_view, segment_start
from test_learner import clas_data, lm_data

small = dict(n_layers=2, n_heads=2, d_model=8, d_head=4, d_inner=12)
words = 'the film was a story of two people and the music was great but it had an awful end'.split()

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('lm')

def learner(folder, arch, backwards=False, **kw):
    set_seed(0)
    l = language_model_learner(lm_data(folder, backwards=backwards), arch, config=kw, pretrained=False, silent=True)
    with torch.no_grad():
        for p in l.model.parameters(): p.add_(torch.randn_like(p)*.2)
    return l

@pytest.mark.parametrize('method', ['lrp','gradient norm','gradient x input'])
@pytest.mark.parametrize('mem_len', [0,1,4,50])
@pytest.mark.parametrize('ctx_len', [3,5])
def test_share(folder, ctx_len, mem_len, method):
    "D5: what is before the segment counts if, and only if, there is a memory; shares add up to 1"
    l = learner(folder, TransformerXL, ctx_len=ctx_len, mem_len=mem_len, **small)
    for n in range(1, 14):
        m = memory_view(l, ' '.join(words[:n]), method=method)
        start = segment_start(l.model[0], n+1)
        assert m.before.tolist()==[i<start for i in range(n+1)] and abs(m.weights.sum()-1)<1e-9 and m.ago.tolist()==list(range(n+1, 0, -1))
        assert (m.share>0)==(mem_len>0 and start>0) and m.place=='memory'

@pytest.mark.parametrize('ctx_len', [1,2,3,6,7])
def test_window(folder, ctx_len):
    "The window of a Transformer begins where gradients begin, for any length of text"
    l = learner(folder, Transformer, ctx_len=ctx_len, **small)
    for n in range(1, 17):
        m = memory_view(l, ' '.join(words[:n]), method='gradient norm')
        assert np.flatnonzero(m.attribution.scores)[0]==m.before.sum()==segment_start(l.model[0], n+1) and m.share==0 and m.place=='out of sight'

def test_recurrent(folder):
    "A recurrent net has no segments"
    for kw in (dict(), dict(qrnn=True)):
        l = learner(folder, AWD_LSTM, emb_sz=8, n_hid=12, n_layers=2, **kw)
        m = memory_view(l, ' '.join(words))
        assert not m.before.any() and m.share==0 and m.attribution.method=='lrp' and 'segment' not in m.caption()
    gru = learner(folder, SimpleGRU, emb_sz=8, n_hid=8, n_layers=1)
    assert memory_view(gru, 'the film').attribution.method=='gradient norm'

def test_backwards(folder, tmp_path):
    "A backward model reads the end first: its memory is at the end of the text"
    l = learner(tmp_path, TransformerXL, backwards=True, ctx_len=4, mem_len=4, **small)
    m = memory_view(l, 'the film was a story')
    n = len(m.before)
    assert m.before.tolist()==[n-1-i<segment_start(l.model[0], n) for i in range(n)] and m.ago.tolist()==list(range(1, n+1)) and m.share>0
    assert m.to_html().index('segment ')<m.to_html().index('memory ', m.to_html().index('</div>'))

def test_is_attribute(folder):
    "The scores are those of `attribute`, by words and with a contrast as well; the table has a row for each"
    l = learner(folder, TransformerXL, ctx_len=4, mem_len=4, **small)
    m,text = memory_view(l, 'The film WAS great', 'music'),'The film WAS great'
    assert m.attribution==attribute(l, text, 'lrp', 'music', 'logit')
    by = memory_view(l, text, 'music', by='word')
    assert by.attribution==attribute(l, text, 'lrp', 'music', 'logit', by='word') and len(by.before)==len(by.attribution.scores)<len(m.before)
    assert abs(by.attribution.scores.sum()-m.attribution.scores.sum())<1e-9 and by.ago[-1]==1
    f = m.to_frame()
    assert f.token.tolist()==m.attribution.tokens and np.allclose(f.share, m.weights) and set(f.part)=={'memory','segment'} and abs(f.share[f.part=='memory'].sum()-m.share)<1e-12
    for method in methods_of(l): assert 0<=memory_view(l, 'the film was a', 'music', method).share<=1

@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=30))
def test_odd_texts(folder, text):
    "Any text at all: finite shares, and nothing of it comes out as HTML"
    m = memory_view(learner(folder, TransformerXL, ctx_len=4, mem_len=4, **small), text+'<img src=x>')
    assert np.isfinite(m.weights).all() and '<img' not in m.to_html() and repr(m) and len(m.to_frame())==len(m.before)

def test_bad_input(folder, tmp_path):
    "What cannot be asked is said in a line"
    l = learner(folder, TransformerXL, ctx_len=4, mem_len=4, **small)
    clas = text_classifier_learner(clas_data(tmp_path), Transformer, config=dict(ctx_len=8, **small), pretrained=False, silent=True)
    for f,error,what in ((lambda: memory_view(clas, 'a film'), TypeError, 'a matter of language models'), (lambda: memory_view(l, 3), TypeError, 'must be a str'),
            (lambda: memory_view(l, 'a', 'musik'), IndexError, 'near to it are music'), (lambda: memory_view(l, 'a', method='magic'), ValueError, "no method 'magic'"),
            (lambda: memory_view(l, 'a', size=1), TypeError, "no option 'size'")):
        with pytest.raises(error, match=what): f()

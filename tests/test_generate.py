"Writing with a language model"
import json, math, threading
from pathlib import Path

import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from textnb.all import *
from textnb.write import (banned_ids, Marks, draw_ids, find_beams, length_groups, next_logits, next_probs, prompt_ids,
    sample_ids, write_ids)
from textnb.models import SimpleGRU, Transformer, TransformerXL
from test_learner import lm_data, small

GOLD = Path(__file__).parent/'goldens'
tfm = dict(n_layers=2, n_heads=2, d_model=12, d_head=6, d_inner=16)
ARCHS = {'awd_lstm': (AWD_LSTM,small), 'awd_qrnn': (AWD_LSTM,dict(small, qrnn=True)), 'gru': (SimpleGRU,small), 'tfmer': (Transformer,dict(tfm, ctx_len=64)),
    'tfmer_short': (Transformer,dict(tfm, ctx_len=8)), 'tfmerXL': (TransformerXL,dict(tfm, ctx_len=16, mem_len=64)), 'tfmerXL_short': (TransformerXL,dict(tfm, ctx_len=8, mem_len=5))}
every_arch = pytest.mark.parametrize('lm', ARCHS, indirect=True)

def make_lm(path, arch='awd_lstm', grow=True, **kw):
    "A language model with a mind of its own: random weights, made larger so that its choices differ, and few marks"
    set_seed(0)
    cls,config = ARCHS[arch]
    learn = language_model_learner(lm_data(path, **kw), cls, config=config, pretrained=False, silent=True)
    with torch.no_grad():
        for p in learn.model.parameters(): p.mul_({AWD_LSTM:6, SimpleGRU:3}.get(cls, 2) if grow else 1)
        bias = learn.model[1].decoder.bias
        if bias is not None: bias.uniform_(-1, 1)[:9] -= 3
    return learn

@pytest.fixture(scope='module')
def lm(request, tmp_path_factory): return make_lm(tmp_path_factory.mktemp('lm'), getattr(request, 'param', 'awd_lstm'))

def log_prob(lm, text, ids):
    "The log-probability of `ids` after `text`, in one run over everything"
    x = torch.tensor([lm.data.encode(text).tolist()+list(ids)], device=lm.device)
    lm.model.eval()
    with torch.no_grad(): lp = lm.model.step(x[:,:-1], None)[0][0].log_softmax(-1)
    return lp[-len(ids):].gather(1, torch.tensor(ids, device=lm.device)[:,None]).sum().item()

def all_paths(lm, text, n, stop=None):
    "All ways to go on by `n` words after `text`, or up to the token `stop`; no mark stands beside a mark"
    marks,bad = Marks(lm.data.vocab),set(banned_ids(lm.data.vocab).tolist())
    ok,start,done,open_ = [i for i in range(len(lm.data.vocab.itos)) if i not in bad],lm.data.encode(text).tolist(),[],[[]]
    while open_:
        ids = open_.pop()
        barred = set(marks.barred(start+ids).tolist())
        for i in ok:
            if i in barred: continue
            new = [*ids,i]
            (done if i==stop or marks.n_words(new)==n else open_).append(new)
    return done

# ---- tokens back to text

@pytest.mark.parametrize('toks,want', [('xxrep 4 ! hello world', ['!!!!','hello','world']), ('xxwrep 3 ha ok', ['ha','ha','ha','ok']), ('xxrep x a', ['a']),
    ('xxmaj the xxup bbc is xxrep 4 ! xxwrep 3 ha end', ['The','BBC','is','!!!!','ha','ha','ha','end'])])
def test_decode(toks, want):
    "Check 2 and A22: a repetition ends after its word"
    assert decode_spec_tokens(toks.split())==want

def test_decode_goldens():
    "Check 2: v1's cases, up to the repetition that v1 never ended"
    for toks,v1 in json.loads((GOLD/'index.json').read_text())['decode_spec_tokens']['cases']:
        k = next((i for i,t in enumerate(toks) if t=='xxrep' and toks[i+1].isdigit()), None)
        got = decode_spec_tokens(toks)
        assert got[:v1.index('!!!!')+1 if k else None]==v1[:v1.index('!!!!')+1 if k else None]

def test_decode_round_trip():
    "Check 2: tokenizing and decoding gives the text back, up to spaces"
    tok = Tokenizer(WordTokenizer)
    for s in ('HELLO Bob!!!!', 'ha ha ha ha ha ok', 'The BBC said NO'):
        assert ' '.join(decode_spec_tokens(tok.process_text(s))).replace(' ', '')==s.replace(' ', '')

@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(['xxmaj','xxup','xxrep','xxwrep','3','0','x','','ha','!','²','99999999999999999999'])))
def test_decode_anything(toks):
    "Any tokens decode: no error, nothing endless, no marker left"
    res = decode_spec_tokens(toks)
    assert not {'xxmaj','xxup','xxrep','xxwrep'} & set(res) and sum(map(len, res))<1e7

def test_decode_loops():
    "A model that says nothing but marks and numbers neither ends the program nor fills the memory"
    assert decode_spec_tokens(['xxmaj']*5000+['a'])==['A'] and decode_spec_tokens(['xxmaj']*5000)==[]
    assert len(decode_spec_tokens(['xxrep','9'*5000]*50+['a'])[0])==1000 and len(decode_spec_tokens(['xxwrep','9'*5000]*50+['a']))==1000

# ---- sampling

@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=2, max_size=20), st.sampled_from([0,.1,.5,1,3]), st.one_of(st.none(), st.integers(1, 30)), st.one_of(st.none(), st.floats(0, 1, exclude_min=True)))
def test_filters(logits, temperature, top_k, top_p):
    "D1: what is drawn from is a distribution, holds the most probable word, and obeys top_k and top_p"
    p = next_probs(torch.tensor(logits), temperature=temperature, top_k=top_k, top_p=top_p)
    assert abs(p.sum().item()-1)<1e-6 and (p>=0).all()
    assert p[next_probs(torch.tensor(logits)).argmax()]==p.max()
    if top_k is not None: assert (p>0).sum()<=top_k
    if top_p is not None:
        q = next_probs(torch.tensor(logits), temperature=temperature, top_k=top_k)
        keep = q[p>0]
        assert keep.sum()>=top_p-1e-9 and (len(keep)==1 or keep.sum()-keep.min()<top_p+1e-9)

@every_arch
def test_greedy(lm):
    "Check 23: temperature towards 0 is argmax, and equals feeding the full text again for every word"
    ids = sample_ids(lm, 'the film', 15, temperature=0)
    assert sample_ids(lm, 'the film', 15, temperature=1e-6)==ids
    x,bad = lm.data.encode('the film').tolist(),banned_ids(lm.data.vocab)
    for i in ids:
        with torch.no_grad(): out = lm.model.eval().step(torch.tensor([x], device=lm.device), None)[0][0,-1].clone()
        out[bad] = -torch.inf
        out[Marks(lm.data.vocab).barred(x)] = -torch.inf
        assert out.argmax().item()==i
        x.append(i)

def test_seed(lm):
    "Check 23: a seed repeats the text and touches no global generator; without one the global generator decides"
    state = torch.get_rng_state()
    a,b,c = lm.predict('the', 30, seed=1),lm.predict('the', 30, seed=1),lm.predict('the', 30, seed=2)
    assert a==b!=c and torch.equal(state, torch.get_rng_state())
    torch.manual_seed(5); d = lm.predict('the', 30)
    torch.manual_seed(5); assert lm.predict('the', 30)==d

def test_never_written(lm):
    "A24: 500 words, none of them padding, filler, or a mark of a document; the unknown word only if allowed"
    no = {'xxpad','xxfake','xxbos','xxeos','xxfld'}
    words = {lm.data.vocab.itos[i] for i in sample_ids(lm, 'the', 500, seed=0, temperature=3.)}
    assert not words & (no|{'xxunk'})
    assert not {lm.data.vocab.itos[i] for i in sample_ids(lm, 'the', 200, seed=0, no_unk=False, temperature=3.)} & no

def test_min_p(lm):
    "B7: a min_p that no word reaches warns, and still writes"
    with pytest.warns(UserWarning, match='no item with probability >= 0.999999'): text = lm.predict('the', 3, min_p=.999999, temperature=1.)
    assert text.startswith('the ')

@every_arch
def test_one_step_a_token(lm):
    "Check 23: the cost grows with the number of words, not with its square"
    sizes,hook = [],lm.model[0].register_forward_pre_hook(lambda m, args: sizes.append(args[0].shape[1]))
    lm.predict('the film was', 10, seed=0)
    hook.remove()
    assert sizes==[3]+[1]*10

def test_prompt_and_state(lm):
    "The prompt stands first, once; the model's own state and flags stay"
    lm.model.train()
    lm.model.reset()
    assert lm.predict('The Film', 0)=='The Film'
    out = lm.predict('The Film', 3, seed=0)
    assert out.startswith('The Film ') and out.count('Film')==1
    assert lm.model.state is None and lm.model.training
    assert len(lm.predict('', 3, seed=0))>0

@pytest.mark.parametrize('text', ['nul \x00', 'lone \ud800', '\n\n', 'word '*3000])
def test_odd_prompts(lm, text):
    "Bad input: any text can be a prompt"
    assert lm.predict(text, 2, seed=0).startswith(text)

def test_no_prompt(lm):
    "Bad input: what is no text is named"
    for f in (lm.predict, lm.beam_search, lm.stream, lm.sample, lm.beam_tree):
        for o in (None, 3, b'the', {'the':1}):
            with pytest.raises(TypeError, match='str'): f(o, 2)

def test_empty_prompt(tmp_path):
    "Bad input: an empty prompt has xxbos to begin with; without it there is nothing to go on from, and that is said"
    learn = make_lm(tmp_path, include_bos=False)
    with pytest.raises(ValueError, match='at least one word'): learn.predict('', 2)
    with pytest.raises(ValueError, match='at least one word'): learn.beam_search('', 2)
    assert learn.predict('the', 2, seed=0).startswith('the ')

@pytest.mark.parametrize('kw,want', [(dict(temperature=math.nan), 'temperature must be a finite number of 0 or more, not nan'), (dict(temperature=-1), 'temperature'),
    (dict(temperature=math.inf), 'temperature'), (dict(temperature='1'), 'temperature must be a number, not str'), (dict(temperature=None), 'temperature'),
    (dict(n_words=-1), 'n_words must be a whole number of 0 or more, not -1'), (dict(n_words=2.5), 'n_words'), (dict(n_words=None), 'n_words'), (dict(n_words=True), 'n_words'),
    (dict(top_p=0), 'top_p'), (dict(top_p=1.1), 'top_p'), (dict(top_p=math.nan), 'top_p'), (dict(top_k=0), 'top_k'), (dict(top_k=1.5), 'top_k'), (dict(min_p=2), 'min_p'),
    (dict(rel_min_p=-.1), 'rel_min_p'), (dict(repetition_penalty=0), 'repetition_penalty'), (dict(seed='a'), 'seed'), (dict(seed=2**70), 'seed'), (dict(seed=[1,2]), '2 numbers for 1 text'),
    (dict(stop='peopel'), "'peopel'. Did you mean 'people'"), (dict(stop=[4]), 'token'), (dict(bs=0), 'bs')])
def test_bad_settings(lm, kw, want):
    "Bad input: a setting that makes no sense is named, before anything is written; sampling, stream and record alike"
    with pytest.raises((ValueError,TypeError), match=want): lm.predict('the', **{'n_words':2, **kw})
    if 'bs' not in kw:
        with pytest.raises((ValueError,TypeError), match=want): lm.stream('the', **{'n_words':2, **kw})

def test_broken_weights(tmp_path):
    "Bad input: a model whose weights are nan says so"
    learn = make_lm(tmp_path)
    with torch.no_grad(): learn.model[0].encoder.weight.fill_(math.nan)
    with pytest.raises(ValueError, match='not finite'): learn.predict('the', 2)
    with pytest.raises(ValueError, match='not finite'): learn.beam_search('the', 2)

@pytest.mark.parametrize('lm', ['awd_lstm','tfmer_short','tfmerXL_short'], indirect=True)
def test_longer_than_the_context(lm):
    "Bad input: a prompt, and a text, much longer than the context; no word is skipped or read twice"
    text = 'the film was a story of two people '*9
    words = Marks(lm.data.vocab).n_words
    assert words(sample_ids(lm, text, 30, seed=0))==30 and lm.predict(text, 30, seed=0).startswith(text)
    assert [words(b.ids) for b in find_beams(lm, text, 5, beam_sz=3)]==[5]*3

# ---- many prompts

prompts = st.lists(st.lists(st.sampled_from('the film was a story of two people in one long night'.split()), max_size=12).map(' '.join), min_size=1, max_size=5)

@every_arch
@settings(max_examples=8, deadline=None)
@given(texts=prompts, seed=st.integers(0, 99), n=st.integers(0, 9), bs=st.integers(1, 4))
def test_batch_is_alone(lm, texts, seed, n, bs):
    "Law 3: each text of a batch is what it would be alone, whatever the lengths, the order and the batch size"
    alone = [lm.predict(t, n, seed=seed+i, temperature=1.5) for i,t in enumerate(texts)]
    assert lm.predict(texts, n, seed=range(seed, seed+len(texts)), temperature=1.5, bs=bs)==alone
    assert lm.predict(texts[::-1], n, seed=range(seed, seed+len(texts))[::-1], temperature=1.5)==alone[::-1]
    assert lm.predict(texts, n, temperature=0)==[lm.predict(t, n, temperature=0) for t in texts]

@pytest.mark.parametrize('arch', ARCHS)
def test_batch_probabilities(tmp_path, arch):
    "Law 3: so are the probabilities with which its words were drawn, to 1e-6"
    lm = make_lm(tmp_path, arch, grow=False)
    texts,settings_ = ['the film was a story','','of','two people in one long night'],dict(seed=3, top_p=.95, repetition_penalty=1.2)
    for a,t in zip(lm.sample(texts, 6, **settings_), texts):
        b = lm.sample(t, 6, **settings_)
        assert a.ids==b.ids
        np.testing.assert_allclose(a.probs, b.probs, atol=1e-6)

def test_batch_with_stops(lm):
    "Rows that end early leave the batch, and the others go on as if nothing had been"
    texts,stop = ['the film','was','a story of two'],lm.data.vocab.itos[9:12]
    got = lm.predict(texts, 25, seed=range(3), stop=stop)
    assert got==[lm.predict(t, 25, seed=i, stop=stop) for i,t in enumerate(texts)]
    for t,g in zip(texts, got):
        new = g[len(t):].lower().split()
        assert not set(new[:-1])&set(stop) and (new[-1] in stop or len(new)==25)

@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 20), st.integers(1, 5), st.one_of(st.none(), st.integers(0, 20)))
def test_groups(lens, n_words, bs, mem_len):
    "Every prompt is in one group, no group is too large, and none spends more steps on waiting than on writing"
    groups = length_groups(lens, n_words, bs, mem_len)
    assert sorted(sum(groups, []))==list(range(len(lens)))
    for g in groups:
        ls = [lens[i] for i in g]
        assert len(g)<=bs and ls==sorted(ls) and all(b-a<=n_words for a,b in zip(ls, ls[1:]))
        assert mem_len is None or len(set(ls))==1 or ls[-1]<=mem_len

def test_many_and_one(lm):
    "A list gives a list, also of one and of none; a tuple and any other iterable too"
    assert lm.predict(['the'], 3, seed=0)==[lm.predict('the', 3, seed=0)]==lm.predict(('the',), 3, seed=0)==lm.predict(iter(['the']), 3, seed=0)
    assert lm.predict([], 3)==[]
    assert lm.beam_search(['the','of'], 3, beam_sz=3)==[lm.beam_search(t, 3, beam_sz=3) for t in ('the','of')]
    assert len(set(lm.predict(['the']*5, 12, seed=range(5))))==5 and len(set(lm.predict(['the']*5, 12, seed=1)))==1

# ---- filters against forms written otherwise

def test_penalty_is_the_standard_one():
    "The repetition penalty is the usual rule (divide positive scores, multiply negative ones) on log-probabilities; adding a constant to all scores changes nothing"
    z,seen = 3*torch.randn(50, generator=torch.Generator().manual_seed(0)).double(),torch.arange(50)%3==0
    lp = z.log_softmax(-1)
    want = torch.where(seen, torch.where(lp<0, lp*1.4, lp/1.4), lp).softmax(-1)
    for add in (0., 7., -100.): torch.testing.assert_close(next_probs(z+add, repetition_penalty=1.4, seen=seen), want, atol=1e-12, rtol=0)

@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(.05, 5), st.integers(1, 80), st.floats(.01, 1), st.floats(0, 1))
def test_filters_in_order(seed, temperature, top_k, top_p, rel_min_p):
    "D1: equal to temperature, top-k, top-p and relative min-p written with sorts, to 1e-7; the sum is 1"
    z = 3*torch.randn(60, generator=torch.Generator().manual_seed(seed))
    p,idx = (z.double()/temperature).softmax(-1).sort(descending=True)
    p[top_k:] = 0
    p /= p.sum()
    p[(p.cumsum(0)-p>=top_p)&(torch.arange(60)>0)] = 0
    p /= p.sum()
    p[p<rel_min_p*p[0]] = 0
    got = next_probs(z, temperature=temperature, top_k=top_k, top_p=top_p, rel_min_p=rel_min_p)
    torch.testing.assert_close(got[idx], p/p.sum(), atol=1e-7, rtol=0)
    assert abs(got.sum().item()-1)<1e-12

@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0.,1.,2.]), min_size=3, max_size=30), st.integers(1, 9), st.floats(.05, 1))
def test_ties(z, top_k, top_p):
    "Equal words: exactly as many stay as were asked for, and a row in a batch keeps those that it keeps alone"
    z = torch.tensor(z)
    a,b = next_probs(z, top_k=top_k, top_p=top_p),next_probs(torch.stack([z.flip(0),z]), top_k=top_k, top_p=top_p)[1]
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    assert (next_probs(z, top_k=top_k)>0).sum()==min(top_k, len(z))

def test_filters_leave_scores(lm):
    "The scores are not changed: the same ones can be re-weighted as often as one likes, with the model asked once"
    z = next_logits(lm, 'the film')
    keep,calls = z.clone(),[]
    hook = lm.model[0].register_forward_hook(lambda *a: calls.append(1))
    for t in (0, .5, 1, 2): next_probs(z, banned_ids(lm.data.vocab), temperature=t, top_p=.8, top_k=5, min_p=.001, rel_min_p=.1)
    hook.remove()
    assert torch.equal(z, keep) and not calls
    with torch.no_grad(): want = lm.model.eval().step(prompt_ids(lm, 'the film')[None], None)[0][0,-1]
    torch.testing.assert_close(z, want.cpu(), atol=1e-5, rtol=1e-5)

def test_repetition(lm):
    "A strong penalty writes no word twice, and leaves the marks of the tokenizer alone"
    n = len(lm.data.vocab.itos)-len(banned_ids(lm.data.vocab))-8
    words = [lm.data.vocab.itos[i] for i in sample_ids(lm, 'the film', n, repetition_penalty=1e4, temperature=0)]
    own = [w for w in words if not w.startswith('xx')]
    assert len(own)==len(set(own)) and not {'the','film'} & set(own)

# ---- draws

def chi2(counts, p):
    "Pearson's statistic, with words that are expected less than 5 times put together, and how far it may go: p-value .001 by Wilson and Hilferty"
    n = counts.sum()
    order = np.argsort(p)
    c,e = np.asarray(counts, float)[order],np.asarray(p, float)[order]*n
    k = max(1, int((np.cumsum(e)<5).sum())+1)
    c,e = np.r_[c[:k].sum(), c[k:]],np.r_[e[:k].sum(), e[k:]]
    d = len(c)-1
    return ((c-e)**2/e).sum(), d*(1-2/(9*d)+3.09*math.sqrt(2/(9*d)))**3

@pytest.mark.parametrize('filters', [{}, dict(temperature=.6), dict(top_k=6), dict(top_p=.8), dict(rel_min_p=.2), dict(temperature=2., top_p=.9, top_k=20)])
def test_draws_follow_the_distribution(lm, filters):
    "D8: 5,000 first words after one prompt, by 5,000 seeds, follow the distribution that the record shows"
    s = lm.sample('the film', 1, seed=0, **filters)
    p = s.dist(0).numpy()
    u = torch.stack([torch.rand((), generator=torch.Generator().manual_seed(k), dtype=torch.double) for k in range(5000)])
    ids = draw_ids(torch.from_numpy(p).expand(5000, -1), u)
    assert ids[:40].tolist()==[sample_ids(lm, 'the film', 1, seed=k, **filters)[0] for k in range(40)]
    n = ids.bincount(minlength=len(p)).numpy()
    x,limit = chi2(n[p>0], p[p>0])
    assert x<limit and n[p==0].sum()==0

def test_draws_of_a_batch(lm):
    "D8: 2,000 rows of one batch, from the global generator"
    torch.manual_seed(1)
    p = lm.sample('of', 1, seed=0).dist(0).numpy()
    n = np.bincount([d.id for d in write_ids(lm, ['of']*2000, 1, bs=500)], minlength=len(p))
    x,limit = chi2(n[p>0], p[p>0])
    assert x<limit and n[p==0].sum()==0

@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda p: sum(p)>1e-300), st.floats(0, 1, exclude_max=True))
def test_draw(p, u):
    "What has no probability is never drawn; the running total up to the word exceeds u, and up to the one before does not"
    p = torch.tensor(p, dtype=torch.double)
    i,total = draw_ids(p, torch.tensor(u, dtype=torch.double)).item(),p.cumsum(0)
    assert p[i]>0 and total[i]>u*total[-1] and (i==0 or total[i-1]<=u*total[-1])

# ---- the record

@every_arch
def test_record(lm):
    "D8: same seed, same text, whether by `predict`, `stream` or `sample`; every word had the probability that the record shows"
    kw = dict(seed=7, temperature=1.3, top_p=.9, repetition_penalty=1.3)
    s = lm.sample('the film', 12, **kw)
    assert s.text==lm.predict('the film', 12, **kw)=='the film'+''.join(w.text for w in lm.stream('the film', 12, **kw))
    for i,(k,p) in enumerate(zip(s.ids, s.probs)): assert math.isclose(s.dist(i)[k], p, abs_tol=1e-6) and abs(s.dist(i).sum()-1)<1e-9
    top = s.top(3, 4)
    assert list(top.columns)==['token','model','drawn_from','total','drawn'] and len(top)==4 and (top.total.diff()[1:]>=0).all()

def n_written(sample):
    "Words that were written, marks apart"
    return Marks(sample.learn.data.vocab, sample.learn.data.backwards).n_words(sample.ids)

@every_arch
@settings(max_examples=8, deadline=None)
@given(i=st.integers(0, 9), seed=st.integers(0, 50), penalty=st.sampled_from([1.,1.5]))
def test_branch(lm, i, seed, penalty):
    "D8: a branch keeps its prefix; without a change it is the same text; with another word it is what that beginning leads to"
    s = lm.sample('the film', 10, seed=seed, repetition_penalty=penalty, temperature=1.2)
    assert s.branch(i).ids==s.ids
    other = s.branch(i, 'night')
    assert other.ids[:i]==s.ids[:i] and other.tokens[i]=='night' and n_written(other)==10 and other.prompt==s.prompt
    for j,(k,p) in enumerate(zip(other.ids, other.probs)): assert math.isclose(other.dist(j)[k], p, abs_tol=1e-5)
    assert s.branch(i, seed=seed+1).ids[:i]==s.ids[:i]
    assert s.branch(i, s.tokens[i]).ids==s.ids

def test_record_is_seedless(lm):
    "Without a seed the record draws from the global generator, and so does a branch"
    torch.manual_seed(3)
    s = lm.sample('the', 8)
    torch.manual_seed(3)
    assert lm.sample('the', 8).ids==s.ids and s.branch(5).ids[:5]==s.ids[:5]

# ---- the stream

@every_arch
def test_stream(lm):
    "Words come one by one, while they are written; a stream that is left leaves nothing behind"
    calls,hook = [],lm.model[0].register_forward_pre_hook(lambda m, args: calls.append(1))
    lm.model.train()
    words = lm.stream('the film', 50, seed=1)
    assert not calls
    first = next(words)
    n = len(calls)
    assert n<10 and lm.model.training and not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    torch.manual_seed(0)
    rest = [next(words) for _ in range(5)]
    del words
    hook.remove()
    assert 'the film'+''.join(w.text for w in [first,*rest])==lm.predict('the film', Marks(lm.data.vocab).n_words([lm.data.vocab.stoi[t] for w in [first,*rest] for t in w.tokens]), seed=1)
    assert all(0<w.prob<=1 for w in rest)

specials = 'xxmaj xxup xxrep xxwrep 3 4 the film'.split()

@settings(max_examples=60, deadline=None)
@given(toks=st.lists(st.sampled_from(specials+['ha']), max_size=12), backwards=st.booleans(), text=st.sampled_from(['','so']))
def test_stream_is_written(toks, backwards, text):
    "However marks and words follow each other, in both directions, the pieces of a stream are the text"
    from types import SimpleNamespace as NS
    from textnb.write import Drawn, continued_text
    from textnb.write.streaming import _pieces
    vocab = Vocab(defaults.text_spec_tok+[t for t in specials if not t.startswith('xx')]+['ha'])
    learn = NS(data=NS(backwards=backwards, vocab=vocab, tokenizer=NS(tok=None)))
    ids = [vocab.stoi[t] for t in toks]
    got = [w.text for w in _pieces(learn, text, [Drawn(0, i, .5, None) for i in ids], ' ', decode_spec_tokens)]
    assert ''.join(got[::-1])+text==continued_text(learn, text, ids) if backwards else text+''.join(got)==continued_text(learn, text, ids)
    assert all(got)

parts = ['xxmaj','xxup','xxrep','▁3','4','▁the','▁fi','lm','s','▁','▁a']

@settings(max_examples=60, deadline=None)
@given(toks=st.lists(st.sampled_from(parts), max_size=12), backwards=st.booleans(), text=st.sampled_from(['','so']))
def test_stream_of_parts(toks, backwards, text):
    "The same for parts of words: a part may go on with the last word of the prompt"
    from types import SimpleNamespace as NS
    from textnb.write import Drawn, continued_text
    from textnb.write.streaming import _pieces
    vocab = Vocab(defaults.text_spec_tok+[t for t in parts if not t.startswith('xx')])
    learn = NS(data=NS(backwards=backwards, vocab=vocab, tokenizer=NS(tok=SubwordTokenizer.__new__(SubwordTokenizer))))
    ids = [vocab.stoi[t] for t in toks]
    got = [w.text for w in _pieces(learn, text, [Drawn(0, i, .5, None) for i in ids], ' ', decode_spec_tokens)]
    assert ''.join(got[::-1])+text==continued_text(learn, text, ids) if backwards else text+''.join(got)==continued_text(learn, text, ids)

def test_threads(lm):
    "B14: threads write what they would have written alone"
    want,got = [lm.predict('the', 10, seed=k) for k in range(4)],{}
    def work(k): got[k] = lm.predict('the', 10, seed=k)
    ts = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in ts: t.start()
    for t in ts: t.join()
    assert [got[k] for k in range(4)]==want

# ---- beams

@every_arch
def test_beam_is_greedy(lm):
    "Check 23: one beam, or one continuation, or temperature 0, is greedy writing"
    want = lm.predict('the film', 8, temperature=0)
    assert lm.beam_search('the film', 8, beam_sz=1)==want==lm.beam_search('the film', 8, top_k=1)==lm.beam_search('the film', 8, temperature=0)

@pytest.mark.parametrize('lm', [a for a in ARCHS if a!='tfmerXL_short'], indirect=True)
def test_beam_scores(lm):
    "Check 23 and A10: every score is the log-probability of its beam, found by reading it from scratch; the best is first, and at least as good as greedy"
    beams = find_beams(lm, 'the film', 6, top_k=4, beam_sz=7)
    assert [Marks(lm.data.vocab).n_words(b.ids) for b in beams]==[6]*7 and [b.logp for b in beams]==sorted([b.logp for b in beams], reverse=True)
    for b in beams: assert b.score==b.logp and math.isclose(log_prob(lm, 'the film', b.ids), b.logp, abs_tol=1e-4)
    assert beams[0].logp>=log_prob(lm, 'the film', sample_ids(lm, 'the film', 6, temperature=0))-1e-5
    assert len({tuple(b.ids) for b in beams})==7

def test_beam_is_exhaustive(lm):
    "With room for all paths the best word, with or without marks before it, is the best there is, and all are there"
    v,every = len(lm.data.vocab.itos),all_paths(lm, 'the', 1)
    beams = find_beams(lm, 'the', 1, top_k=v, beam_sz=10*len(every))
    assert sorted(b.ids for b in beams)==sorted(every)
    r = np.random.default_rng(0)
    for i in r.choice(len(every), 40): assert log_prob(lm, 'the', every[i])<=beams[0].logp+1e-5

def test_beam_long(lm):
    "A10: 400 words: no underflow, the prompt once, nothing that is no word, the same every time"
    text = lm.beam_search('The film', 400, beam_sz=5)
    assert text.startswith('The film ') and not text[8:].startswith(' The film')
    assert not {'xxpad','xxfake','xxbos','xxunk'} & set(text.split()) and lm.beam_search('The film', 400, beam_sz=5)==text

def test_beam_wider_than_the_vocabulary(lm):
    "Bad input: more beams or continuations than there are words is as many as there are"
    v = len(lm.data.vocab.itos)
    assert lm.beam_search('the', 2, top_k=10*v, beam_sz=100*v)==lm.beam_search('the', 2, top_k=v, beam_sz=v*v)
    assert lm.predict('the', 5, top_k=10*v, seed=0)==lm.predict('the', 5, seed=0)

@pytest.mark.parametrize('kw,want', [(dict(beam_sz=0), 'beam_sz'), (dict(top_k=0), 'top_k'), (dict(temperature=-1), 'temperature'), (dict(temperature=math.nan), 'temperature'),
    (dict(beam_sz=2.5), 'beam_sz'), (dict(groups=0), 'groups'), (dict(groups=4, beam_sz=3), 'groups'), (dict(group_penalty=-1), 'group_penalty'), (dict(n_best=0), 'n_best'),
    (dict(length_penalty=math.nan), 'length_penalty'), (dict(stop='zzz'), 'zzz'), (dict(stop=3), 'token'), (dict(n_words=-1), 'n_words'), (dict(n_words='3'), 'n_words')])
def test_beam_arguments(lm, kw, want):
    "Bad input: settings that make no sense are named"
    with pytest.raises((ValueError,TypeError), match=want): lm.beam_search('the', **{'n_words':3, **kw})

@every_arch
@settings(max_examples=6, deadline=None)
@given(n=st.integers(1, 7), beam_sz=st.integers(1, 6), top_k=st.integers(1, 5), n_pruned=st.integers(0, 6))
def test_tree(lm, n, beam_sz, top_k, n_pruned):
    "D3: the best leaf is the answer of `beam_search`; sums of log-probabilities hold; no level is wider than the beam; every node that was pruned says why"
    tree = lm.beam_tree('the film', n, beam_sz=beam_sz, top_k=top_k, n_pruned=n_pruned)
    beams = find_beams(lm, 'the film', n, beam_sz=beam_sz, top_k=top_k)
    assert [[o.id for o in tree.path(b.node)] for b in tree.beams]==[b.ids for b in tree.beams]==[b.ids for b in beams]
    assert tree.best.num==tree.beams[0].node and tree.beams[0].text==lm.beam_search('the film', n, beam_sz=beam_sz, top_k=top_k)
    for o in tree.nodes: assert math.isclose(o.logp, sum(p.token_logp for p in tree.path(o)), abs_tol=1e-5)
    for b in tree.beams: assert math.isclose(tree.nodes[b.node].logp, b.logp, abs_tol=1e-5)
    for i in range(1, n+1):
        level = tree.level(i)
        assert 1<=sum(o.kept for o in level)<=beam_sz and sum(not o.kept for o in level)<=n_pruned
        if i>1: assert all(tree.nodes[o.parent].kept and tree.nodes[o.parent].level==i-1 for o in level)
    assert all((o.reason is None)==o.kept and tree.why(o) for o in tree.nodes)

def test_tree_reasons(lm):
    "D3: each reason can be checked by hand"
    tree = lm.beam_tree('the film', 3, beam_sz=3, top_k=2, n_pruned=60)
    assert {'banned','top_k','beam'} == {o.reason for o in tree.nodes if not o.kept}
    bad = set(banned_ids(lm.data.vocab).tolist())
    for o in tree.nodes:
        family = [p for p in tree.nodes if p.parent==o.parent and p.id not in bad]
        better = sum(p.token_logp>o.token_logp for p in family)
        if o.reason=='banned': assert o.id in bad
        if o.reason=='top_k': assert better>=2
        if o.reason=='beam': assert better<2 and o.logp<=min(p.logp for p in tree.level(o.level) if p.kept)
    assert str(tree).count('\n')==len(tree.nodes) and len(tree.to_frame())==len(tree.nodes)

@settings(max_examples=10, deadline=None)
@given(n=st.integers(1, 6), a=st.sampled_from([0.,1.]), groups=st.integers(1, 3))
def test_tree_of_paths_that_end(lm, n, a, groups):
    "D3: also with stop tokens, means and groups the tree's beams are those of the search, each with its own last node"
    kw = dict(beam_sz=5, top_k=4, stop=lm.data.vocab.itos[9:13], length_penalty=a, groups=groups)
    tree,beams = lm.beam_tree('the film', n, **kw),find_beams(lm, 'the film', n, **kw)
    assert [(b.ids,b.score,b.ended) for b in tree.beams]==[(b.ids,b.score,b.ended) for b in beams]
    for b in tree.beams:
        last = tree.nodes[b.node]
        assert [o.id for o in tree.path(last)]==b.ids and last.ended==b.ended and last.kept and last.group==b.group
    assert not {o.parent for o in tree.nodes} & {o.num for o in tree.nodes if o.ended or not o.kept}

def test_diverse(lm):
    "Groups part where the penalty is large, are one search where it is 0, and every score stays a log-probability"
    far = find_beams(lm, 'the film', 4, beam_sz=6, groups=3, group_penalty=1e6)
    first = [{b.ids[0] for b in far if b.group==g} for g in range(3)]
    assert not (first[0]&first[1] or first[0]&first[2] or first[1]&first[2])
    for b in far: assert math.isclose(log_prob(lm, 'the film', b.ids), b.logp, abs_tol=1e-4)
    near = find_beams(lm, 'the film', 4, beam_sz=6, groups=2, group_penalty=0.)
    alone = find_beams(lm, 'the film', 4, beam_sz=3)
    for g in range(2): assert [b.ids for b in near if b.group==g]==[b.ids for b in alone]
    assert [b.ids for b in find_beams(lm, 'the film', 4, beam_sz=6, groups=3, group_penalty=1e6) if b.group==0]==[b.ids for b in find_beams(lm, 'the film', 4, beam_sz=2)]
    assert 'group' in {o.reason for o in lm.beam_tree('the film', 4, beam_sz=6, groups=3, group_penalty=5., n_pruned=40).nodes}

def test_stop_and_length(lm):
    "Paths that end are compared with those that go on: the exhaustive search over all of them agrees, for sums and for means"
    stop = lm.data.vocab.itos[find_beams(lm, 'the', 3, top_k=5, beam_sz=5)[2].ids[1]]
    k = lm.data.vocab.stoi[stop]
    every = all_paths(lm, 'the', 1, k)
    logp = {tuple(o):log_prob(lm, 'the', o) for o in every[::7]}
    for a in (0., 1., 2.):
        beams = find_beams(lm, 'the', 1, top_k=99, beam_sz=10*len(every), stop=stop, length_penalty=a)
        assert len(beams)==len(every) and [b.score for b in beams]==sorted([b.score for b in beams], reverse=True)
        found = {tuple(b.ids):b for b in beams}
        for o,p in logp.items(): assert math.isclose(found[o].logp, p, abs_tol=1e-4) and math.isclose(found[o].score, found[o].logp/len(o)**a)
        assert all(b.ended==(b.ids[-1]==k) for b in beams)

@settings(max_examples=12, deadline=None)
@given(n=st.integers(1, 8), beam_sz=st.integers(1, 5), n_best=st.integers(1, 3), a=st.sampled_from([-.5,0.,.7,1.,2.]))
def test_search_stops_in_time(lm, n, beam_sz, n_best, a):
    "A search that stops early, because nothing can overtake, finds what the whole search finds"
    stop = lm.data.vocab.itos[9:14]
    few,full = (find_beams(lm, 'the film', n, top_k=3, beam_sz=beam_sz, stop=stop, length_penalty=a, n_best=o) for o in (n_best,10**6))
    assert [(b.ids,b.score) for b in few]==[(b.ids,b.score) for b in full[:n_best]]

# ---- backwards

@pytest.mark.parametrize('arch', ARCHS)
def test_backward(tmp_path, arch):
    "A11: a backward model reads its prompt from the right and writes to the left of it, one text or many, drawn, searched or streamed"
    learn = make_lm(tmp_path, arch, backwards=True)
    for text in (learn.predict('was the end', 4, seed=0), learn.beam_search('was the end', 4, beam_sz=3)): assert text.endswith(' was the end')
    ids = sample_ids(learn, 'the end', 1, temperature=0)
    x = torch.tensor([learn.data.vocab.numericalize(['end','the'])], device=learn.device)
    with torch.no_grad(): out = learn.model.eval().step(x, None)[0][0,-1]
    out[banned_ids(learn.data.vocab)] = -torch.inf
    assert out.argmax().item()==ids[0]
    texts = ['the end','night','two people in one']
    assert learn.predict(texts, 6, seed=1)==[learn.predict(t, 6, seed=1) for t in texts]
    assert ''.join([w.text for w in learn.stream('the end', 9, seed=1)][::-1])+'the end'==learn.predict('the end', 9, seed=1)==learn.sample('the end', 9, seed=1).text
    assert learn.beam_tree('the end', 4).beams[0].text==learn.beam_search('the end', 4, beam_sz=3)

def test_show_results(lm, capsys):
    "The table of continuations can be made, in a terminal as well"
    lm.show_results(rows=2, max_len=4)
    assert 'target' in capsys.readouterr().out

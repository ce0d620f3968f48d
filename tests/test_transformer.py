"Transformer and Transformer-XL: parity with fastai 1.0.61, references written pair by pair, the laws on padding and purity, and learners on them"
import json, pickle, threading
from pathlib import Path

import numpy as np, pytest, torch, torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import nn
from textnb.all import *
from textnb.explain import class_scores
from textnb.learn import encoder_of
from textnb.models import *
from test_learner import clas_data, lm_data

GOLD = Path(__file__).parent/'goldens'
ARCHS = [Transformer,TransformerXL]
TINY = dict(ctx_len=8, n_layers=2, n_heads=2, d_model=8, d_head=4, d_inner=12)

def golden(name):
    with np.load(GOLD/f'{name}.npz') as z: arrays = {k:torch.tensor(z[k]) for k in z}
    return arrays,{k[2:]:v for k,v in arrays.items() if k.startswith('w/')}

def config_of(name):
    "The configuration in `index.json`, but for the function `init`"
    return {k:v for k,v in json.loads((GOLD/'index.json').read_text())[name]['config'].items() if k!='init'}

def alive(model, seed=0):
    "Random weights of some size, also in the norms: a model whose outputs differ"
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for n,p in model.named_parameters(): p.copy_(torch.randn(p.shape, generator=g)*.4 + ('ln.' in n or n.endswith(('5.weight','6.weight'))))
    return model.eval().requires_grad_(False)

def encoder(arch, **kw):
    "A small encoder; the memory of a Transformer-XL is of 8 words"
    mem = dict(mem_len=8) if arch is TransformerXL else {}
    return alive(arch(30, **{**TINY, **mem, **kw}))

def classifier(arch, n_class=3, max_len=100, **kw):
    torch.manual_seed(0)
    model = get_text_classifier(arch, 30, n_class, bptt=3, max_len=max_len, config={**TINY, **(dict(mem_len=8) if arch is TransformerXL else {}), **kw})
    return alive(model)

def docs_of(*lens, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 30, (n,), generator=g) for n in lens]

def rows(docs, left, extra=0):
    sl = max(map(len, docs))+extra
    return torch.stack([F.pad(d, (sl-len(d),0) if left else (0,sl-len(d)), value=1) for d in docs])

def near(a, b, atol=1e-5, **kw): torch.testing.assert_close(a, b, atol=atol, rtol=0, **kw)

def read(enc, ids, sizes):
    "Read `ids` in pieces of `sizes`"
    state,res = None,[]
    for o in ids.split(sizes, 1):
        _,outs,state = enc(o, state)
        res.append(outs[-1])
    return torch.cat(res, 1),state

# ---- the same as fastai

@pytest.mark.parametrize('name,arch,n', [('transformer_lm',Transformer,3), ('transformer_xl_lm',TransformerXL,4)])
def test_lm_golden(name, arch, n):
    "Checks 11 and 20: v1's own state dict loads strictly; its windows give its scores and states, a memory carried over where there is one"
    g,w = golden(name)
    model = get_language_model(arch, 37, config_of(name)).eval().requires_grad_(False)
    model.load_state_dict(w)
    assert set(model.state_dict())==set(w)
    state = None
    for i in range(n):
        decoded,raws,outs = model(g[f'x{i}'])
        near(decoded, g[f'decoded{i}'])
        near(outs[-1], g[f'out_last{i}'])
        stepped,state = model.step(g[f'x{i}'], state if arch is TransformerXL else None)
        near(stepped, g[f'decoded{i}'])
        if arch is TransformerXL and i: near(model.state[-1], g[f'raw_last{i}'])
        if arch is Transformer: near(raws[-1], g[f'raw_last{i}'])

def test_clas_golden():
    "v1's classifier on one piece of text without padding, where v1 was right"
    g,w = golden('transformer_clas')
    model = get_text_classifier(Transformer, 37, 3, config=config_of('transformer_clas')).eval().requires_grad_(False)
    model.load_state_dict(w)
    scores,_,outs = model(g['x'])
    near(scores, g['logits'])
    near(outs[-1], g['out_last'])

def test_parameter_counts():
    "The sizes of fastai's models (vocabulary 1,000), and the configurations of its `tfmer_*` and `tfmerXL_*`"
    def count(m): return sum({p:p.numel() for p in m.parameters()}.values())
    with torch.device('meta'):
        assert [count(get_language_model(a, 1000)) for a in ARCHS]==[86_215_680,31_211_620]
        assert [count(get_text_classifier(a, 1000, 2)) for a in ARCHS]==[86_335_740,31_274_832]
    keys = 'ctx_len n_layers n_heads d_model d_head d_inner output_p bias scale act double_drop'.split()
    assert [tfmer_lm_config[k] for k in keys]==[512,12,12,768,64,3072,0.,True,True,Activation.GeLU,False]
    assert [tfmerXL_lm_config[k] for k in keys]==[150,12,10,410,41,2100,.1,False,True,Activation.ReLU,True]
    for lm,clas,bias in ((tfmer_lm_config,tfmer_clas_config,False), (tfmerXL_lm_config,tfmerXL_clas_config,True)):
        assert (lm['tie_weights'],lm['out_bias'],lm['mask'],clas['mask'])==(True,bias,True,False)
        assert all(c[p]==.1 for c in (lm,clas) for p in ('resid_p','attn_p','ff_p','embed_p'))

@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('n_layers', [1,2,3,7,12])
def test_layer_groups(arch, n_layers):
    "Check 22: every parameter (positions, `u` and `v` too) is in exactly one group; 4 groups for language models, 5 for classifiers"
    lm,clas,n = get_language_model(arch, 30, {**TINY, 'n_layers':n_layers}),get_text_classifier(arch, 30, 2, config={**TINY, 'n_layers':n_layers}),min(3, n_layers)
    for model,key,want in ((lm,'split_lm',n+1), (clas,'split_clas',n+2)):
        groups = [{p for m in g for p in ([m] if isinstance(m, nn.Parameter) else m.parameters())} for g in model_meta(arch)[key](model)]
        assert len(groups)==want and all(groups)
        assert sum(map(len, groups))==len(set.union(*groups)) and set.union(*groups)==set(model.parameters())

# ---- against references written pair by pair

def naive_attention(att, q, k, v, scores_more, hidden):
    "Scores, softmax and means of one layer in loops; (n_heads, sl, d_head) and so on"
    res = torch.zeros_like(q)
    for h in range(q.shape[0]):
        for i in range(q.shape[1]):
            see = [j for j in range(k.shape[1]) if not hidden(i, j)]
            w = torch.stack([((q[h,i]*k[h,j]).sum()+scores_more(h, i, j))*att.scale for j in see]).softmax(0)
            res[h,i] = sum(a*v[h,j] for a,j in zip(w, see))
    return res

def naive_layer(layer, x, past, u, v, causal):
    "One layer for one text `x` (sl, d) after the states `past` (m, d)"
    att,seen,m = layer.mhra,torch.cat([past,x]),len(past)
    q,k,val = [o.view(len(seen), att.n_heads, att.d_head).transpose(0,1) for o in att.attention(seen).chunk(3, -1)]
    q = q[:,m:]
    def far(h, i, j):
        if u is None: return 0.
        r = PositionalEncoding(x.shape[1]).to(x.dtype)(torch.tensor([m+i-j]))
        return (u[h,0]*k[h,j]).sum() + ((q[h,i]+v[h,0])*att.r_attn(r).view(att.n_heads, -1)[h]).sum()
    res = naive_attention(att, q, k, val, far, lambda i, j: causal and j>m+i)
    h = att.ln(x+att.out(res.transpose(0,1).flatten(1)))
    return layer.ff.layers[-1](h+nn.Sequential(*layer.ff.layers[:-2])(h))

@pytest.mark.parametrize('causal', [True,False])
@pytest.mark.parametrize('bias', [True,False])
def test_xl_equals_naive(causal, bias):
    "Check 20: outputs and gradients of the fast layers equal a computation pair by pair, in both directions, with a memory"
    enc = encoder(TransformerXL, mask=causal, bias=bias, mem_len=5, d_model=8).double().requires_grad_()
    x,mem = torch.randn(1,6,8).double().requires_grad_(),[torch.randn(1,3,8).double() for _ in range(3)]
    fast = enc(x, mem, from_embeddings=True)[1]
    h,slow = x[0],[]
    for layer,past in zip(enc.layers, mem):
        h = naive_layer(layer, h, past[0], enc.u, enc.v, causal)
        slow.append(h)
    for a,b in zip(fast, slow): near(a[0], b, 1e-9)
    ps = [x,*[p for n,p in enc.named_parameters() if n!='encoder.weight']]
    for a,b in zip(*[torch.autograd.grad(o.pow(2).sum(), ps, allow_unused=True) for o in (fast[-1],slow[-1])]): near(a, b, 1e-7)
    enc.train()
    near(enc(x, mem, from_embeddings=True)[1][-1], fast[-1], 1e-9)

@pytest.mark.parametrize('causal', [True,False])
def test_transformer_equals_naive(causal):
    "Outputs and gradients of PyTorch's attention equal those of loops"
    enc = encoder(Transformer, mask=causal).double().requires_grad_()
    x = torch.randn(1,6,8).double().requires_grad_()
    fast,h = enc(x, from_embeddings=True)[1][-1][0],x[0]+enc.pos_enc.weight[:6]
    for layer in enc.layers: h = naive_layer(layer, h, h[:0], None, None, causal)
    near(fast, h, 1e-9)
    ps = [x,*[p for n,p in enc.named_parameters() if n!='encoder.weight']]
    for a,b in zip(*[torch.autograd.grad(o.pow(2).sum(), ps) for o in (fast,h)]): near(a, b, 1e-7)

def test_gradcheck():
    "Gradients through cache, memory and shift against finite differences"
    for arch in ARCHS:
        enc = encoder(arch, d_inner=4, n_layers=1, ctx_len=4).double()
        x = torch.randn(1,6,8).double().requires_grad_()
        def f(x):
            _,a,state = enc(x[:,:2], from_embeddings=True)
            return torch.cat([a[-1],enc(x[:,2:], state, from_embeddings=True)[1][-1]], 1)
        assert torch.autograd.gradcheck(f, x)

@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(0, 7))
def test_relative_shift(sl, m):
    "Row `i` moved by `sl-1-i`, for every number of queries and of remembered words"
    n = m+sl
    x = torch.randn(2, sl, n+sl-1)
    want = torch.stack([x[:,i,sl-1-i:sl-1-i+n] for i in range(sl)], 1)
    assert torch.equal(relative_shift(x, n), want)
    assert torch.equal(relative_shift(x[...,:n], n).tril(m), want.tril(m))

# ---- state: cache and memory

@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 13), min_size=1, max_size=7), st.integers(1, 12), st.booleans())
def test_cache_equals_whole(sizes, ctx_len, learned):
    "Check 23: a Transformer read in any pieces, also far beyond its context, equals one that reads at once"
    enc = encoder(Transformer, ctx_len=ctx_len, learned_pos_enc=learned).double()
    ids = torch.stack(docs_of(sum(sizes), sum(sizes)))
    out,state = read(enc, ids, sizes)
    near(out, enc(ids)[1][-1], 1e-10)
    assert enc.state_len(state)<=ctx_len and enc.state_bs(state)==2

@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 13), min_size=1, max_size=7), st.integers(1, 12))
def test_memory_equals_whole(sizes, ctx_len):
    "Check 20: with a memory as long as the text, chunked equals whole"
    enc = encoder(TransformerXL, ctx_len=ctx_len, mem_len=sum(sizes)).double()
    ids = torch.stack(docs_of(sum(sizes), sum(sizes)))
    near(read(enc, ids, sizes)[0], enc(ids)[1][-1], 1e-10)

@pytest.mark.parametrize('arch', ARCHS)
def test_model_step(arch):
    "`step` in pieces equals `step` at once, stores nothing, and gives the same twice"
    model = alive(get_language_model(arch, 30, {**TINY, **(dict(mem_len=40) if arch is TransformerXL else {})}))
    ids = torch.stack(docs_of(30, 30))
    whole,_ = model.step(ids)
    a,state = model.step(ids[:,:11])
    before = [o.clone() for s in state for o in (s if isinstance(s, tuple) else (s,))]
    b,_ = model.step(ids[:,11:], state)
    near(torch.cat([a,b], 1), whole)
    assert torch.equal(model.step(ids[:,11:], state)[0], b) and model.state is None
    assert all(torch.equal(x, y) for x,y in zip(before, [o for s in state for o in (s if isinstance(s, tuple) else (s,))]))

@pytest.mark.parametrize('arch', ARCHS)
def test_past_is_settled(arch):
    "Check 20: changing word t leaves everything before it alone, and moves what comes after it"
    enc,ids = encoder(arch),torch.stack(docs_of(30))
    other = ids.clone()
    other[0,12] = (ids[0,12]+5)%28+2
    moved = (enc(ids)[1][-1]-enc(other)[1][-1]).abs().amax(2)[0]
    assert moved[:12].max()==0 and (moved[12:16]>1e-4).all()

@pytest.mark.parametrize('arch', ARCHS)
def test_one_step_a_word(arch):
    "Check 23: writing costs one step a word, and a full context is read again in half once in half a context: the cost is flat"
    enc,seen = encoder(arch, ctx_len=8),[]
    hook = enc.layers[0].register_forward_pre_hook(lambda m, a, kw: seen.append(a[0].shape[1]), with_kwargs=True)
    state,ids = None,docs_of(400)[0][None]
    for o in ids.split(1, 1): _,_,state = enc(o, state)
    hook.remove()
    assert len(seen)==400 and sum(seen[:200])<=2*200 and sum(seen[200:])==sum(seen[100:300])
    if arch is TransformerXL: assert set(seen)=={1}

@pytest.mark.parametrize('arch', ARCHS)
def test_beams_can_be_forked(arch):
    "A state's rows can be taken, repeated and put in another order"
    enc,ids = encoder(arch, ctx_len=5),torch.stack(docs_of(12, 12, 12))
    _,_,state = enc(ids[:,:11])
    for idxs in (torch.tensor([2,0,0,1]), slice(0,2)):
        near(enc(ids[idxs,11:], enc.select_state(state, idxs))[1][-1], enc(ids[:,11:], state)[1][-1][idxs])

def test_no_memory():
    "B9: mem_len=0 works everywhere"
    enc = encoder(TransformerXL, mem_len=0)
    ids = torch.stack(docs_of(16, 16))
    _,_,state = enc(ids[:,:8])
    assert enc.state_len(state)==0 and enc.state_bs(enc.select_state(state, torch.tensor([1])))==1
    near(enc(ids[:,8:], enc.detach_state(state))[1][-1], enc(ids[:,8:])[1][-1])
    model = get_language_model(TransformerXL, 30, {**TINY, 'mem_len':0})
    for _ in range(2): model(ids)[0].sum().backward()

def test_stored_state():
    "A language model stores the memory of Transformer-XL cut off from the graph, begins afresh for another batch size, and stores nothing of a Transformer"
    ids = torch.stack(docs_of(6, 6))
    xl,tf = [get_language_model(a, 30, {**TINY, **m}, drop_mult=0.) for a,m in zip(ARCHS[::-1], (dict(mem_len=9),{}))]
    first = xl(ids)[0]
    assert all(not o.requires_grad for o in xl.state) and xl[0].state_len(xl.state)==6
    assert not torch.allclose(xl(ids)[0], first) and xl[0].state_len(xl.state)==9
    near(xl(ids[:1])[0], first[:1])
    assert torch.equal(tf(ids)[0], tf(ids)[0]) and tf.state is None

@pytest.mark.parametrize('arch', ARCHS)
def test_from_embeddings(arch):
    "Vectors of the words in place of ids, in one piece and with a state, and a gradient for each of them"
    for mask in (True,False):
        enc,ids = encoder(arch, mask=mask),torch.stack(docs_of(20, 20))
        x = enc.encoder(ids).requires_grad_()
        out = enc(x, from_embeddings=True)[1][-1]
        near(out, enc(ids)[1][-1])
        assert (torch.autograd.grad(out.pow(2).sum(), x)[0].norm(dim=-1)>0).all()
        for a,b in zip(enc.attentions(x, from_embeddings=True), enc.attentions(ids)): near(a, b)
    enc = encoder(arch)
    _,_,state = enc(enc.encoder(ids[:,:7]), from_embeddings=True)
    near(enc(enc.encoder(ids[:,7:]), state, from_embeddings=True)[1][-1], enc(ids[:,7:], enc(ids[:,:7])[2])[1][-1])

# ---- documents

@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ARCHS), st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 9), st.integers(1, 12), st.integers(1, 30), st.booleans(), st.integers(0, 9),
    st.booleans(), st.booleans())
def test_padding_never_matters(arch, lens, bptt, ctx_len, max_len, left, extra, mask, grad):
    "Checks 17 and 18, law 3: a row's states are those of its document alone, exactly the last `max_len`, zero behind; `bptt` means nothing"
    enc,docs = encoder(arch, ctx_len=ctx_len, mask=mask).double(),docs_of(*lens)
    with torch.set_grad_enabled(grad):
        raws,outs,pad = MultiBatchEncoder(bptt, max_len, enc)(rows(docs, left, extra))
        for i,d in enumerate(docs):
            n,alone = min(len(d), max_len),enc(d[None])[1]
            assert (~pad[i]).sum()==n and pad[i,n:].all()
            near(outs[-1][i,:n], alone[-1][0,-n:], 1e-11)
            assert (outs[-1][i,n:]==0).all() and raws[-1] is outs[-1]

@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('mask', [True,False])
def test_class_depends_on_document_alone(arch, mask):
    "Check 17: alone, unsorted, reversed, with 0 to 500 pads on either side; lengths 11, 6, 5; a row of padding is no NaN and moves nobody"
    model,docs = classifier(arch, mask=mask),docs_of(11, 6, 5, 80, 1)
    def probs(x): return model(x)[0].softmax(-1)
    alone = torch.cat([probs(d[None]) for d in docs])
    assert alone.std(0).min()>1e-3
    for extra in (0,1,37,500):
        for left in (True,False):
            near(probs(rows(docs, left, extra)), alone, 1e-6)
            near(probs(rows(docs[::-1], left, extra)).flip(0), alone, 1e-6)
    near(probs(rows(docs[:3], False)), alone[:3], 1e-6)
    res = probs(torch.cat([rows(docs, True), torch.ones(1,80).long()]))
    assert not res.isnan().any()
    near(res[:5], alone, 1e-6)

@pytest.mark.parametrize('arch', ARCHS)
def test_gradients_depend_on_document_alone(arch):
    "Law 3 in training: the gradient of a document's states does not depend on its neighbours"
    docs = docs_of(19, 4, 11, 30)
    for mask in (True,False):
        enc = encoder(arch, mask=mask).requires_grad_()
        def grads(batch, i): return torch.autograd.grad(MultiBatchEncoder(4, 8, enc)(batch)[1][-1][i].pow(2).sum(), list(enc.parameters()))
        for i,d in enumerate(docs):
            for a,b in zip(grads(rows(docs, True), i), grads(d[None], 0)): torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)

def test_windows_by_the_rule():
    "Texts longer than the context: windows overlap by half, each word takes the one in which it has most context, and unwanted ones are not read"
    ids = torch.stack(docs_of(21))
    for mask in (True,False):
        enc = encoder(Transformer, ctx_len=8, mask=mask)
        def win(a, b): return enc(ids[:,a:b])[1][-1]
        cut = (8,12,16,20) if mask else (6,10,14,18)
        want = torch.cat([win(0,8)[:,:cut[0]], win(4,12)[:,cut[0]-4:cut[1]-4], win(8,16)[:,cut[1]-8:cut[2]-8],
            win(12,20)[:,cut[2]-12:cut[3]-12], win(16,21)[:,cut[3]-16:]], 1)
        near(enc(ids)[1][-1], want)
        seen = []
        hook = enc.layers[0].register_forward_pre_hook(lambda m, a, kw: seen.append(a[0].shape[1]), with_kwargs=True)
        MultiBatchEncoder(70, 2, enc)(ids)
        hook.remove()
        assert seen==[8,5] if mask else seen==[5]

@pytest.mark.parametrize('arch', ARCHS)
def test_max_len_is_exact(arch):
    "Check 18 for windows that overlap, and for a memory"
    for n in (39,40,41,200):
        for mask in (True,False):
            model,doc = classifier(arch, max_len=40, mask=mask),docs_of(n)[0][None]
            outs = model(doc)[2]
            assert outs[-1].shape[1]==min(n, 40)
            near(outs[-1], model[0].module(doc)[1][-1][:,-40:], 2e-6)

@pytest.mark.parametrize('arch', ARCHS)
def test_threads_share_a_model(arch):
    "B14: many threads, one model, the same numbers as one thread"
    model,docs = classifier(arch, mask=False),docs_of(*range(1, 17))
    expect,got = [model(d[None])[0] for d in docs],[None]*16
    def work(k):
        for i in range(k, 16, 4): got[i] = model(docs[i][None])[0]
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    for a,b in zip(got, expect): near(a, b, 1e-6)

# ---- attention weights

@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('mask', [True,False])
@pytest.mark.parametrize('n', [1,5,8,9,23])
def test_attentions(arch, mask, n):
    "Rows sum to 1, nobody looks ahead if the future is hidden, one matrix a layer; a state's words are the first columns"
    enc,ids = encoder(arch, mask=mask),torch.stack(docs_of(n, n))
    ws = enc.attentions(ids)
    assert [w.shape for w in ws]==[(2,2,n,n)]*2
    for w in ws:
        near(w.sum(-1), torch.ones(2,2,n))
        assert (w>=0).all() and (not mask or (w.triu(1)==0).all())
    if mask and n>1:
        k = n//2
        _,_,state = enc(ids[:,:k])
        m = enc.state_len(state)
        for w,whole in zip(enc.attentions(ids[:,k:], state), ws):
            assert w.shape==(2,2,n-k,m+n-k)
            near(w.sum(-1), torch.ones(2,2,n-k))
            if n<=8 or arch is Transformer: near(w, whole[:,:,k:,k-m:])

def test_attentions_explain_the_output():
    "The weights are those that the output is made with, and carry gradients"
    for arch in ARCHS:
        enc,ids = encoder(arch, n_layers=1),torch.stack(docs_of(6))
        w,x,att = enc.attentions(ids)[0],enc.encoder(ids),enc.layers[0].mhra
        if arch is Transformer: x = x+enc.pos_enc(torch.arange(6))
        value = att.attention(x).chunk(3, -1)[2].view(1, 6, 2, 4).transpose(1,2)
        h = att.ln(x+att.out((w@value).transpose(1,2).flatten(2)))
        near(enc.layers[0].ff(h), enc(ids)[1][-1])
        e = enc.encoder(ids).requires_grad_()
        assert torch.autograd.grad(enc.attentions(e, from_embeddings=True)[0].pow(2).sum(), e)[0].abs().sum()>0

# ---- training

@pytest.mark.parametrize('arch', ARCHS)
def test_dropouts(arch):
    "All dropouts scale with `drop_mult`, work in training, also in the cache's and the weights' way, and rest in evaluation"
    small = model_meta(arch)['config_lm'] | TINY
    lm = get_language_model(arch, 30, TINY, drop_mult=.5)
    assert np.allclose([m.p for m in lm.modules() if isinstance(m, nn.Dropout)], .05)
    assert np.isclose(lm[1].output_dp.p, small['output_p']/2)
    ids = torch.stack(docs_of(6, 6))
    for p in ('resid_p','attn_p','ff_p','embed_p'):
        enc = encoder(arch, **{p:.5}).train()
        torch.manual_seed(0)
        a = enc(ids)[1][-1]
        assert not torch.equal(a, enc(ids)[1][-1]), p
        torch.manual_seed(0)
        assert torch.equal(a, enc(ids)[1][-1])
        before = torch.get_rng_state()
        assert torch.equal(enc.eval()(ids)[1][-1], enc(ids)[1][-1]) and torch.equal(before, torch.get_rng_state())

@pytest.mark.parametrize('arch', ARCHS)
def test_learns(arch):
    "A few steps on one batch, in float32 and bfloat16: the loss falls, every parameter gets a gradient of its own type"
    for half in (False,True):
        torch.manual_seed(0)
        lm = get_language_model(arch, 30, {**TINY, 'd_model':16, 'd_head':8}, drop_mult=.1)
        opt,x,losses = torch.optim.Adam(lm.parameters(), 1e-2),(torch.arange(11)+torch.arange(8)[:,None])%25+2,[]
        for _ in range(30):
            with torch.autocast('cpu', torch.bfloat16, enabled=half): out = lm(x[:,:-1])[0]
            losses.append(F.cross_entropy(out.float().flatten(0, 1), x[:,1:].flatten()))
            opt.zero_grad(), losses[-1].backward()
            assert all(p.grad is not None and p.grad.dtype==torch.float32 for p in lm.parameters() if p.requires_grad)
            opt.step()
        assert losses[-1]<losses[0]*.7
        with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
            lm.eval()
            _,state = lm.step(x[:,:5])
            assert lm.step(x[:,5:6], state)[0].isfinite().all()
        clas = get_text_classifier(arch, 30, 2, config=TINY)
        with torch.autocast('cpu', torch.bfloat16, enabled=half): scores = clas(rows(docs_of(5, 9, 30), True))[0]
        scores.float().sum().backward()
        assert scores.isfinite().all() and all(p.grad is not None for p in clas[0].parameters())

def test_init():
    "Tables, weights and norms begin as they should; `u` and `v` are never raw memory (B9)"
    torch.manual_seed(0)
    for arch in ARCHS:
        model = get_text_classifier(arch, 500, 2, config=dict(TINY, d_model=32, d_head=16))
        for n,p in model[0].named_parameters():
            if n.endswith('bias'): assert (p==0).all()
            else: assert abs(p.mean()-float('ln.' in n or n.endswith(('layers.5.weight','layers.6.weight'))))<.02 and .01<p.std()<.04, n
    assert all(o.isfinite().all() and o.abs().max()<.2 for e in [TransformerXL(9, **TINY)] for o in (e.u,e.v))

# ---- mistakes

@pytest.mark.parametrize('arch', ARCHS)
def test_bad_input(arch):
    "What cannot be is named, with the cure"
    for build in (get_language_model, lambda a, n, c: get_text_classifier(a, n, 2, config=c)):
        with pytest.raises(ValueError, match='n_heads=3 does not divide the width d_model=8: take 2 or 4 heads'): build(arch, 30, {**TINY, 'n_heads':3})
        with pytest.raises(ValueError, match='n_heads=0'): build(arch, 30, {**TINY, 'n_heads':0})
        with pytest.raises(ValueError, match="mean 'ctx_len'"): build(arch, 30, dict(ctxlen=3))
        with pytest.raises(ValueError, match='ReLU, Swish, GeLU'): build(arch, 30, {**TINY, 'act':'SELU'})
        with pytest.raises(ValueError, match='at least 1'): build(arch, 30, {**TINY, 'n_layers':0})
    enc,ids = encoder(arch),torch.stack(docs_of(5, 5))
    _,_,state = enc(ids)
    with pytest.raises(ValueError, match='2 rows and the input 1'): enc(ids[:1], state)
    with pytest.raises(ValueError, match='no words to read'): enc(ids[:,:0])
    assert enc(torch.stack(docs_of(5000)))[1][-1].shape==(1,5000,8)

def test_bad_input_of_one():
    "What only one of the two cannot do"
    enc,ids = encoder(Transformer),torch.stack(docs_of(5))
    _,_,state = enc(ids)
    with pytest.raises(ValueError, match='looks both ways'): encoder(Transformer, mask=False)(ids, state)
    with pytest.raises(ValueError, match='learned_pos_enc=False'): TransformerXL(30, **TINY, learned_pos_enc=True)
    with pytest.raises(ValueError, match='at least 0'): TransformerXL(30, **TINY, mem_len=-1)

def test_choices():
    "Activations by name, member and class; waves in place of learned positions; scale=False; heads of a size of their own (B9)"
    ids = torch.stack(docs_of(20))
    for arch in ARCHS:
        by = [alive(arch(30, **TINY, act=a))(ids)[1][-1] for a in ('Swish', Activation.Swish, nn.SiLU)]
        assert torch.equal(by[0], by[1]) and torch.equal(by[0], by[2])
        plain,raw,wide = encoder(arch)(ids)[1][-1],encoder(arch, scale=False)(ids)[1][-1],encoder(arch, d_head=7)
        assert not torch.allclose(plain, raw) and wide(ids)[1][-1].shape==(1,20,8) and encoder(arch, d_head=None).layers[0].mhra.d_head==4
    assert encoder(Transformer, learned_pos_enc=False, d_model=9, n_heads=3)(ids)[1][-1].shape==(1,20,9)

# ---- learners

def lm_learner(path, arch, **kw):
    set_seed(0)
    return language_model_learner(lm_data(path, **kw), arch, config=TINY, pretrained=False, silent=True)

@pytest.mark.parametrize('arch', ARCHS)
def test_language_learner(arch, tmp_path):
    "Fit, write, search, export and load; writing equals reading everything again; prompts longer than the context"
    learn = lm_learner(tmp_path, arch)
    learn.fit_one_cycle(1, 1e-2)
    assert np.isfinite(learn.recorder.val_losses).all() and len(learn.layer_groups)==3
    long = ' '.join(['the film was a story']*8)
    for text in ('the film', long):
        words = learn.predict(text, 6, temperature=0)[len(text):].split()
        assert len(words)==6 and learn.beam_search(text, 3, beam_sz=5).startswith(text)
        ids = learn.data.encode(text).tolist()
        learn.model.eval()
        if arch is Transformer:
            for w in words:
                with torch.no_grad(): p = learn.model.step(torch.tensor([ids], device=learn.device))[0][0,-1].clone()
                p[[i for i,o in enumerate(learn.data.vocab.itos) if o.startswith('xx')]] = -torch.inf
                assert learn.data.vocab.itos[int(p.argmax())]==w
                ids.append(int(p.argmax()))
    back = load_learner(learn.export().parent)
    assert back.predict(long, 4, temperature=0)==learn.predict(long, 4, temperature=0)

@pytest.mark.parametrize('arch', ARCHS)
def test_classifier_learner(arch, tmp_path):
    "Check 16, 24: an encoder moves from a language model to a classifier; freeze, fit, predict, get_preds and export agree"
    lm = lm_learner(tmp_path, arch)
    lm.save_encoder('enc')
    set_seed(0)
    learn = text_classifier_learner(clas_data(tmp_path, vocab=lm.data.vocab), arch, config=TINY, pretrained=False, silent=True)
    learn.load_encoder('enc')
    for (n,a),b in zip(lm.model[0].state_dict().items(), encoder_of(learn.model).state_dict().values()): assert torch.equal(a, b), n
    assert [any(p.requires_grad for p in g.parameters()) for g in learn.layer_groups]==[False]*3+[True]
    learn.unfreeze()
    learn.fit_one_cycle(2, 1e-2)
    probs,_ = learn.get_preds()
    texts = [learn.data.valid_ds.raw_text(i) for i in range(len(probs))]
    near(torch.stack([learn.predict(t)[2] for t in texts]), probs)
    near(torch.stack([o[2] for o in load_learner(learn.export().parent).predict(texts)]), probs)

def test_full_configs_load_by_name(tmp_path):
    "Small configurations have one naming scheme, and a user's own entries survive an export"
    learn = language_model_learner(lm_data(tmp_path), TransformerXL, config={**TINY, 'act':Activation.Swish, 'init':init_transformer}, pretrained=False, silent=True)
    back = load_learner(learn.export().parent)
    assert isinstance(back.model[0].layers[0].ff.layers[1], Swish)
    for a,b in zip(learn.model.state_dict().values(), back.model.state_dict().values()): assert torch.equal(a, b)
    for c in (tfmer_small_lm_config,tfmer_small_clas_config,tfmerXL_small_lm_config,tfmerXL_small_clas_config): assert c['d_model']==128

def test_resume_with_memory(tmp_path, on_cpu):
    "A checkpoint in the middle of an epoch holds the memory of the stream: going on from it ends where an unbroken fit does"
    whole,cut,new = [lm_learner(tmp_path, TransformerXL) for _ in range(3)]
    for l,extra in ((whole, []),(cut, [CheckpointCallback(3), StopAfterNBatches(4)])):
        set_seed(5)
        l.fit(1, 1e-2, callbacks=extra)
    new.add_cb(StopAfterNBatches(999))
    new.resume()
    for a,b in zip(whole.model.state_dict().values(), new.model.state_dict().values()): assert torch.equal(a, b)

@pytest.mark.parametrize('arch', ARCHS)
def test_v1_files(arch, tmp_path):
    "Weights and words as fastai v1 wrote them (`.pth`, `.pkl`) load into a language model and a classifier, rows moved to the new vocabulary"
    lm = lm_learner(tmp_path, arch)
    itos,sd = [*lm.data.vocab.itos[:9],*lm.data.vocab.itos[:8:-1],'elsewhere'],{k:v.clone() for k,v in lm.model.state_dict().items()}
    for k in ('0.encoder.weight','1.decoder.weight','1.decoder.bias'):
        if k in sd: sd[k] = torch.randn(len(itos), *sd[k].shape[1:])
    sd['1.decoder.weight'] = sd['0.encoder.weight'].clone()
    (tmp_path/'models').mkdir(exist_ok=True)
    torch.save(sd, tmp_path/'models'/'w.pth')
    with open(tmp_path/'models'/'i.pkl', 'wb') as f: pickle.dump(itos, f)
    lm.load_pretrained('w', 'i')
    learn = text_classifier_learner(clas_data(tmp_path, vocab=lm.data.vocab), arch, config=TINY, pretrained_fnames=['w','i'], silent=True)
    want = sd['0.encoder.weight'][[itos.index(w) for w in lm.data.vocab.itos]]
    for l in (lm,learn): assert torch.equal(encoder_of(l.model).encoder.weight.cpu(), want.cpu())
    assert lm.model[1].decoder.weight is lm.model[0].encoder.weight
    for a,b in zip(encoder_of(learn.model).layers.state_dict().values(), lm.model[0].layers.state_dict().values()): assert torch.equal(a, b)

@pytest.mark.parametrize('arch', ARCHS)
def test_backwards(arch, tmp_path):
    "A backward language model writes to the left, a backward classifier predicts what `get_preds` says"
    lm = lm_learner(tmp_path, arch, backwards=True)
    assert lm.predict('a story', 3, temperature=0).endswith('a story')
    learn = text_classifier_learner(clas_data(tmp_path, backwards=True), arch, config=TINY, pretrained=False, silent=True)
    probs,_ = learn.get_preds()
    near(learn.predict(learn.data.valid_ds.raw_text(3))[2], probs[3])

@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('mask', [True,False])
def test_scores_from_vectors(arch, mask):
    "Scores that attribution computes from word vectors are those of the classifier, also beyond the context and `max_len`"
    model = classifier(arch, max_len=20, mask=mask)
    for d in docs_of(1, 8, 9, 50):
        emb = model[0].module.encoder(d)[None]
        near(class_scores(model, emb), model(d[None])[0])

@pytest.mark.parametrize('arch', ARCHS)
def test_16_bit_weights(arch):
    "A whole model in bfloat16 reads, goes on from its state and stays close to float32, far from the beginning, too"
    kw,ids = dict(ctx_len=400, **(dict(learned_pos_enc=False) if arch is Transformer else dict(mem_len=400))),torch.stack(docs_of(300))
    exact,half = encoder(arch, **kw)(ids)[1][-1],encoder(arch, **kw).bfloat16()
    out,state = read(half, ids, [200,99,1])
    assert out.dtype==torch.bfloat16 and state[0].dtype==torch.bfloat16
    assert (out.float()-exact).abs().mean()<.06*exact.abs().mean()

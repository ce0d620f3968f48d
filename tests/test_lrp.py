"Layer-wise relevance, and the live engine that stands on it"
import copy, threading
from math import comb

import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from textnb.all import *
from textnb.explain import (attribute, explained_number, methods_of, LiveText, Reader, fingerprint, one_thread, why_slow, Head,
    LSTMSteps, QRNNSteps, Unrolled, cannot_unroll, fold_head, lrp, ratio)
from textnb.models import QRNNLayer
from test_learner import clas_data, lm_data, small

def net(n_class=3, double=True, scale=2, max_len=1400, **kw):
    "A classifier whose numbers are not all near 0"
    set_seed(0)
    m = get_text_classifier(AWD_LSTM, 40, n_class, max_len=max_len, config=dict(emb_sz=8, n_hid=12, n_layers=3) | kw).eval()
    for k,p in m.named_parameters(): p.data.mul_(scale)
    for k,b in m.named_buffers():
        if 'running' in k: b.uniform_(.1, .5)
    return m.double() if double else m

def secant(f, z): return z*ratio(f(z), z).detach()

def trick(model, ids, target):
    "The same by autograd: gates cut off, secants for slopes, gradient x input"
    enc = model[0].module
    emb = enc.encoder(torch.as_tensor(ids)).detach().requires_grad_()
    x = emb
    for rnn in enc.rnns:
        if enc.rnns[0].__class__.__name__=='QRNN':
            for l in rnn.layers:
                both = torch.cat([x, torch.cat([x[:1]*0, x[:-1]])], 1) if l.window==2 else x
                u,f,o = l.linear(both).chunk(3, 1)
                f,o,c,out = f.sigmoid().detach(),o.sigmoid().detach(),0,[]
                for t in range(len(x)):
                    c = (1-f[t])*c + f[t]*secant(torch.tanh, u[t])
                    out.append(o[t]*c)
                x = torch.stack(out)
            continue
        w = [rnn.module.weight_ih_l0, rnn.weight_hh_l0_raw, rnn.module.bias_ih_l0+rnn.module.bias_hh_l0]
        h = c = x.new_zeros(w[1].shape[1])
        out = []
        for v in x:
            i,f,u,o = (w[0]@v + w[1]@h + w[2]).chunk(4)
            c = f.sigmoid().detach()*c + i.sigmoid().detach()*secant(torch.tanh, u)
            h = o.sigmoid().detach()*secant(torch.tanh, c)
            out.append(h)
        x = torch.stack(out)
    kept = x[-model[0].max_len:]
    pooled = torch.cat([kept[-1], kept.amax(0), kept.mean(0)])[None]
    return (torch.autograd.grad(target(model[1].layers(pooled)[0]), emb)[0]*emb).sum(1).detach()

ids = np.array([2,9,14,9,22,5,31,7,8,9,30,33])
goals = dict(margin=lambda s: s[1]-s[0], logit=lambda s: s[2], prob=lambda s: s.softmax(0)[1], log_prob=lambda s: s.log_softmax(0)[0])

# ---- LRP

@pytest.mark.parametrize('qrnn', [False,True])
@pytest.mark.parametrize('goal', goals)
@pytest.mark.parametrize('max_len', [5,1400])
def test_explicit_is_trick(qrnn, goal, max_len):
    "A5: the pass by hand equals autograd's to 1e-10 in double precision, for texts shorter and longer than what is pooled"
    m = net(qrnn=qrnn, max_len=max_len)
    for n in (1,2,12):
        r,scores = lrp(m, ids[:n], goals[goal])
        assert torch.allclose(r, trick(m, ids[:n], goals[goal]), atol=1e-10, rtol=0), n
        with torch.no_grad(): assert torch.allclose(scores, m(torch.tensor(ids[None,:n]))[0][0], atol=1e-10)

@pytest.mark.parametrize('qrnn', [False,True])
def test_conservation(qrnn):
    "A5: without biases the relevance of the words is the score, to 1e-10"
    m = net(qrnn=qrnn)
    for k,p in m.named_parameters():
        if 'bias' in k: p.data.zero_()
    for k,b in m.named_buffers():
        if 'running_mean' in k: b.zero_()
    r,s = lrp(m, ids, goals['margin'])
    assert abs(r.sum()-goals['margin'](s))<1e-10 and abs(s).max()>1e-4
    for k,p in m.named_parameters():
        if k.startswith('1.') and 'bias' in k: p.data.add_(.1)
    r,s = lrp(m, ids, goals['logit'])
    assert abs(r.sum()-goals['logit'](s))>1e-3

def arras_linear(x, w, z, R, eps):
    "One linear map, as the paper of 2017 writes it: `w` (inputs, outputs)"
    return (w*x[:,None]/(z+eps*np.where(z>=0, 1., -1.))[None]*R[None]).sum(1)

@pytest.mark.parametrize('eps', [0.,.001,.1])
def test_paper(eps):
    "A5: the formulas of Arras et al. 2017 written down literally, step by step, with their stabiliser"
    r = np.random.default_rng(0)
    n,d,T = 4,3,6
    wx,wh,b,x = r.normal(size=(4*n,d)),r.normal(size=(4*n,n)),r.normal(size=4*n),r.normal(size=(T,d))
    sig = lambda v: 1/(1+np.exp(-v))
    h,c,rows = np.zeros(n),np.zeros(n),[]
    for t in range(T):
        z = wx@x[t]+wh@h+b
        i,f,u,o = sig(z[:n]),sig(z[n:2*n]),z[2*n:3*n],sig(z[3*n:])
        c2 = f*c+i*np.tanh(u)
        rows.append((h, c, i, f, u, c2))
        h,c = o*np.tanh(c2),c2
    steps = LSTMSteps(*[torch.tensor(v) for v in (wx, wh, b, b*0)])
    trace = steps.new_trace()
    assert np.allclose(steps.read(trace, torch.tensor(x))[-1], h)
    g_out = torch.zeros(T, n, dtype=torch.double)
    g_out[-1] = 1
    got = (steps.relevance(trace, g_out, eps)*torch.tensor(x)).numpy()
    Rh,Rc = h.copy(),np.zeros(n)
    for t in reversed(range(T)):
        h0,c0,i,f,u,c2 = rows[t]
        Rc = Rc+Rh
        Rg = arras_linear(i*np.tanh(u), np.eye(n), c2, Rc, eps)
        Rc = arras_linear(f*c0, np.eye(n), c2, Rc, eps)
        assert np.allclose(got[t], arras_linear(x[t], wx[2*n:3*n].T, u, Rg, eps), atol=1e-9), t
        Rh = arras_linear(h0, wh[2*n:3*n].T, u, Rg, eps)

@given(st.lists(st.integers(0, 39), min_size=1, max_size=20), st.data())
@settings(max_examples=20, deadline=None)
def test_read_on(words, data):
    "Reading in any pieces gives the states and the relevance of reading at once"
    for m in (net(), net(qrnn=True)):
        u = Unrolled(m)
        one,many = u.new_traces(),u.new_traces()
        u.read(one, words)
        start = 0
        while start<len(words):
            n = data.draw(st.integers(1, len(words)-start))
            u.read(many, words[start:start+n], start)
            start += n
        a,b = (u.relevance(t, len(words), goals['margin'])[0] for t in (one,many))
        assert torch.allclose(a, b, atol=1e-12)

def test_fold():
    "The folded head is the head"
    m = net()
    x = torch.randn(7, 8, dtype=torch.double)
    h = Head(m)
    pooled = torch.stack([h.pool(x[:t+1]) for t in range(7)])
    with torch.no_grad(): assert torch.allclose(h.scores(pooled), m[1].layers(pooled), atol=1e-10)
    with pytest.raises(TypeError, match='Sigmoid'): fold_head(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2)))

@pytest.mark.parametrize('output_gate', [True,False])
def test_qrnn_gates(output_gate):
    "A QRNN layer without output gate, with zoneout, and with both windows"
    for window in (1,2):
        l = QRNNLayer(3, 4, save_prev_x=True, window=window, zoneout=.2, output_gate=output_gate).double().eval()
        q,x = QRNNSteps(l),torch.randn(5, 3, dtype=torch.double)
        with torch.no_grad(): assert torch.allclose(q.read(q.new_trace(), x), l(x[None])[0][0], atol=1e-10)

def test_who_has_none(tmp_path):
    "A model that cannot be unrolled says why, in a line that names what it has"
    set_seed(0)
    learn = text_classifier_learner(clas_data(tmp_path), AWD_LSTM, config={**small, 'bidir':True}, pretrained=False, silent=True)
    with pytest.raises(ValueError, match="no method 'lrp'.*both ways.*there are"): attribute(learn, 'a great film', 'lrp')
    assert 'lrp' not in methods_of(learn) and cannot_unroll(learn.model)

def test_language_model(tmp_path):
    "LRP of a next word: the scores are those of the model, and relevance adds up to what biases leave"
    set_seed(0)
    lm = language_model_learner(lm_data(tmp_path), AWD_LSTM, config=small, pretrained=False, silent=True)
    a = attribute(lm, 'the film was', 'lrp', target='logit')
    lm.model.eval()
    scores,_ = lm.model.step(torch.tensor(a.ids[None], device=lm.device))
    assert a.is_lm and abs(a.value-scores[0,-1,a.target].item())<1e-5
    assert len(a.scores)==len(a.tokens) and np.isfinite(a.scores).all() and abs(a.gap-(a.scores.sum()-a.value))<1e-6

def test_head_is_left_alone():
    "Explaining changes nothing: flags, gradients and weights are as before"
    m = net().train()
    before = fingerprint(m),[p.requires_grad for p in m.parameters()]
    lrp(m, ids, goals['margin'])
    assert before==(fingerprint(m),[p.requires_grad for p in m.parameters()])
    assert all(o.training for o in m.modules()) and all(p.grad is None for p in m.parameters())

def test_toy_sum():
    "B6: an LSTM that adds two marked numbers: LRP and Shapley values are the numbers (r >= .95), the length of the gradient is not"
    def sums(n, gen, T=6):
        x,pick = torch.zeros(n, T, 2),torch.rand(n, T, generator=gen).argsort(1)[:,:2]
        v = (torch.rand(n, T, generator=gen)*.5+.5)*torch.randint(0, 2, (n,T), generator=gen).mul(2).sub(1)
        marked = torch.zeros(n, T).scatter_(1, pick, 1)
        x[...,0],x[...,1] = v*(1-marked),v*marked
        return x, (v*marked).sum(1), marked.bool()
    set_seed(0)
    gen,lstm,out = torch.Generator().manual_seed(0),nn.LSTM(2, 8, batch_first=True),nn.Linear(8, 1, bias=False)
    opt = torch.optim.Adam([*lstm.parameters(),*out.parameters()], lr=2e-2)
    for step in range(500):
        x,y,_ = sums(64, gen)
        loss = ((out(lstm(x)[0][:,-1])[:,0]-y)**2).mean()
        opt.zero_grad(), loss.backward(), opt.step()
        opt.param_groups[0]['lr'] = 2e-2*(1-step/500)
    assert loss<.01
    f = lambda v: out(lstm(v)[0][:,-1])[:,0].detach()
    steps,(x,_,marked) = LSTMSteps(*[getattr(lstm, n) for n in ('weight_ih_l0','weight_hh_l0','bias_ih_l0','bias_hh_l0')]),sums(60, gen)
    subsets = torch.tensor([[b>>i&1 for i in range(6)] for b in range(64)])
    found = dict(lrp=[], shapley=[], gradient=[])
    weight = torch.tensor([1/(6*comb(5, int(s)-1)) if s else 0. for s in subsets.sum(1)])
    for v in x:
        trace,g = steps.new_trace(),torch.zeros(6, 8)
        g[-1] = out.weight[0].detach()
        steps.read(trace, v)
        found['lrp'].append((steps.relevance(trace, g)*v).sum(1))
        val = f(v[None]*subsets[...,None])
        found['shapley'].append(torch.stack([sum(weight[b]*(val[b]-val[b^(1<<i)]) for b in range(64) if b>>i&1) for i in range(6)]))
        v = v.clone().requires_grad_()
        found['gradient'].append(torch.autograd.grad(out(lstm(v[None])[0][0,-1]).sum(), v)[0].norm(dim=1))
    r = {k: np.corrcoef(torch.stack(o)[marked].detach(), x[...,1][marked])[0,1] for k,o in found.items()}
    assert r['lrp']>=.95 and r['shapley']>=.95 and abs(r['gradient'])<.5, r

# ---- live

@pytest.fixture(scope='module')
def learn(tmp_path_factory):
    set_seed(0)
    l = text_classifier_learner(clas_data(tmp_path_factory.mktemp('live')), AWD_LSTM, config=small, max_len=9, pretrained=False, silent=True)
    with torch.no_grad():
        for p in l.model.parameters(): p.mul_(2)
    return l

typed = ['', 't', 'the', 'The film', 'The film WAS', 'The film was awful', 'The film was great', 'The film was great, a lovely story of people',
    'A film was great, a lovely story of people and music', 'great great great great', 'great', '<b>"x"</b> 😀\n\nfine', 'dull film '*15, 'dull film '*15+'!']

@pytest.mark.parametrize('qrnn', [False,True])
def test_equals_slow_path(learn, tmp_path, qrnn):
    "Text after text, the engine says what predict and attribute say, to 1e-5: also for texts longer than what is pooled"
    if qrnn:
        set_seed(0)
        learn = text_classifier_learner(clas_data(tmp_path), AWD_LSTM, config={**small, 'qrnn':True}, max_len=9, pretrained=False, silent=True)
    engine = LiveText(learn)
    assert engine.live
    for t in typed:
        for method in ('lrp','occlusion','running difference'):
            r,a = engine.update(t, method=method),attribute(learn, t, method)
            assert np.allclose(r.attribution.scores, a.scores, atol=1e-5) and abs(r.attribution.value-a.value)<1e-5, (t,method)
            assert r.attribution.spans==a.spans and r.attribution.tokens==a.tokens and r.attribution.caption().split('gap')[0]==a.caption().split('gap')[0]
        assert np.allclose(r.probs, learn.predict(t)[2], atol=1e-5) and np.allclose(r.running[-1], r.probs, atol=1e-5)
        ids = learn.data.encode(t)
        assert np.allclose(r.running, learn.predict_ids([ids[:k+1] for k in range(len(ids))]), atol=1e-5)

@given(st.lists(st.lists(st.sampled_from('the film was great awful of people !'.split()), max_size=14), min_size=2, max_size=6))
@settings(max_examples=15, deadline=None)
def test_any_order(learn, texts):
    "Whatever was typed before, the answer is that of a fresh engine; what is reused is the common prefix of ids"
    engine,last = LiveText(learn),[]
    for t in texts:
        r,new,ids = engine.update(' '.join(t)),LiveText(learn).update(' '.join(t)),list(learn.data.encode(' '.join(t)))
        same = next((k for k,(a,b) in enumerate(zip(ids, last)) if a!=b), min(len(ids), len(last)))
        assert r.reused==same and new.reused==0
        assert np.allclose(r.attribution.scores, new.attribution.scores, atol=1e-6) and np.allclose(r.running, new.running, atol=1e-6)
        last = ids

def test_changed_weights(learn):
    "Training, loading, and changes through .data make the cache void"
    l = copy.copy(learn)
    l.model = copy.deepcopy(learn.model)
    engine,text = LiveText(l),'the film was great'
    def step():
        with torch.no_grad(): [p.add_(.01) for p in l.model.parameters()]
    changes = [step, lambda: l.model.load_state_dict(learn.model.state_dict()), lambda: l.model[0].module.rnns[0].weight_hh_l0_raw.data.mul_(1.5),
        lambda: l.model[1].layers[0].running_mean.add_(.1), lambda: l.model.double(), lambda: l.model.float()]
    for change in changes:
        engine.update(text)
        assert engine.update(text).reused>0
        change()
        r = engine.update(text)
        assert r.reused==0 and np.allclose(r.probs, l.predict(text)[2], atol=1e-5)

def test_options(learn):
    "Class, target, contrast and options go through; another baseline of occlusion takes the method's own way"
    engine,text = LiveText(learn),'the film was great'
    for kw in (dict(class_id=0), dict(class_id='pos', target='prob'), dict(target='log_prob'), dict(class_id='pos', contrast='neg'), dict(eps=.1),
               dict(method='occlusion', baseline='unk'), dict(method='occlusion', by='word'), dict(method='integrated gradients', steps=4), dict(method='v1')):
        assert np.allclose(engine.update(text, **kw).attribution.scores, attribute(learn, text, **{'method':'lrp', **kw}).scores, atol=1e-5), kw

def test_slow_path(tmp_path):
    "A backward model is answered all the same, and says why it is slow"
    set_seed(0)
    back = text_classifier_learner(clas_data(tmp_path, backwards=True), AWD_LSTM, config=small, pretrained=False, silent=True)
    r = LiveText(back).update('a great film')
    assert not r.live and 'backward' in r.why and r.why==why_slow(back)
    assert np.allclose(r.attribution.scores, attribute(back, 'a great film', 'lrp').scores)
    assert np.allclose(r.probs, back.predict('a great film')[2], atol=1e-6) and len(r.running)==len(r.attribution.tokens)

def test_other_architectures(tmp_path):
    "An architecture without steps is explained by gradient x input unless somebody asks for more"
    set_seed(0)
    two_way = text_classifier_learner(clas_data(tmp_path), AWD_LSTM, config={**small, 'bidir':True}, pretrained=False, silent=True)
    r = LiveText(two_way).update('a great film')
    assert not r.live and r.running is None and r.attribution.method=='gradient x input'
    with pytest.raises(ValueError, match='no method'): LiveText(two_way).update('a great film', method='lrp')

def test_bad_input(learn, tmp_path):
    "NaN in the weights is named; after an error the engine goes on; a language model is refused"
    l = copy.copy(learn)
    l.model = copy.deepcopy(learn.model)
    engine = LiveText(l)
    engine.update('a great film')
    w = l.model[1].layers[2].weight
    old = w.detach().clone()
    with torch.no_grad(): w[0,0] = float('nan')
    with pytest.raises(ValueError, match='layers.2.weight hold NaN'): engine.update('a great film')
    with torch.no_grad(): w.copy_(old)
    assert np.allclose(engine.update('a great film').probs, learn.predict('a great film')[2], atol=1e-6)
    with pytest.raises(IndexError, match='no class'): engine.update('a great film', class_id='?')
    with pytest.raises(NotImplementedError, match='classifiers'): LiveText(language_model_learner(lm_data(tmp_path), AWD_LSTM, config=small, pretrained=False, silent=True))

def test_interrupted_reading(learn):
    "A reading that breaks off leaves a cache that is right"
    r,ids = Reader(learn.model),list(learn.data.encode('the film was great and lovely'))
    r.read(ids)
    layer,read = r.unrolled.layers[1],r.unrolled.layers[1].read
    def broken(*args): raise KeyboardInterrupt
    layer.read = broken
    with pytest.raises(KeyboardInterrupt): r.read([*ids[:3],12,13])
    layer.read = read
    assert r.read(ids)==3
    u = Unrolled(learn.model)
    assert torch.allclose(r.states, u.read(u.new_traces(), ids), atol=1e-6)

def test_bounded(learn):
    "The memory is that of one text of at most max_tokens; the slow path holds nothing"
    engine = LiveText(learn, max_tokens=40)
    for n in (5,19,150,1000): r = engine.update('dull great '*n)
    assert not r.live and 'more than 40' in r.why and r.running.shape==(len(r.attribution.tokens),2)
    assert max(len(o) for t in engine._reader.traces for o in t.data.values())<=64

def test_threads(learn):
    "Several threads may ask one engine; the number of threads of the process is put back, also after an error"
    engine,res,n = LiveText(learn),{},torch.get_num_threads()
    def ask(t): res[t] = engine.update(t).attribution.scores
    threads = [threading.Thread(target=ask, args=(t,)) for t in typed]
    for t in threads: t.start()
    for t in threads: t.join()
    for t in typed: assert np.allclose(res[t], attribute(learn, t, 'lrp').scores, atol=1e-5)
    with pytest.raises(RuntimeError), one_thread(): raise RuntimeError
    assert torch.get_num_threads()==n

def test_side_effects(learn):
    "Nothing is left behind: training flags, gradients, random state"
    learn.model.train()
    try:
        before = torch.get_rng_state(),fingerprint(learn.model)
        LiveText(learn).update('a great film', method='occlusion')
        assert all(m.training for m in learn.model.modules()) and all(p.grad is None for p in learn.model.parameters())
        assert torch.equal(before[0], torch.get_rng_state()) and before[1]==fingerprint(learn.model)
    finally: learn.model.eval()

def test_margin_of_one_output():
    "A regression has one output, whose score is explained"
    m = net(n_class=1)
    r,s = lrp(m, ids, lambda s: explained_number(s, 0, None))
    assert torch.allclose(r, trick(m, ids, lambda s: s[0]), atol=1e-10)

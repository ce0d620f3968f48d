"Layer-wise relevance through attention: each rule written down literally, and what must hold of the whole"
import copy, threading

import numpy as np, pytest, torch
from textnb.all import *
from textnb.explain import attention_lrp, no_rules, with_rules, attribute, class_scores, methods_of, LiveText, Head
from textnb.learn import encoder_of
from test_learner import clas_data, lm_data

tiny = dict(ctx_len=6, n_layers=2, n_heads=2, d_model=8, d_head=4, d_inner=12)

def net(arch, task='clas', seed=0, max_len=1400, **kw):
    "A model in double precision whose numbers are not all near 0"
    set_seed(seed)
    config = tiny|(dict(mem_len=5) if arch is TransformerXL else {})|kw
    m = get_language_model(arch, 30, config) if task=='lm' else get_text_classifier(arch, 30, 3, max_len=max_len, config=config)
    m = m.double().eval()
    for k,p in m.named_parameters(): p.data.add_(torch.randn_like(p)*.3)
    for k,b in m.named_buffers():
        if 'running' in k: b.uniform_(.1, .5)
    return m

ids = np.random.default_rng(0).integers(2, 30, 17)
goals = dict(margin=lambda s: s[1]-s[0], logit=lambda s: s[2], prob=lambda s: s.softmax(0)[1])

# ---- the rules, literally: relevance R of what comes out -> relevance of what went in

def over(z, eps): return z+eps*torch.where(z<0, -1., 1.)
def linear(x, w, b, R, eps=0): return x*((R/over(x@w.T+(0 if b is None else b), eps))@w)
def added(parts, R): return [p/sum(parts)*R for p in parts]

def norm(ln, x, R):
    c = x-x.mean(-1, keepdim=True)
    G = R/ln(x)*ln.weight/(c.square().mean(-1, keepdim=True)+ln.eps).sqrt()
    return x*(G-G.mean(-1, keepdim=True))

class ByHand:
    "Relevance through an encoder, layer by layer; `kept` is what the softmaxes keep"
    def __init__(self, model, eps=0., to_weights=.5):
        self.model,self.enc,self.eps,self.share,self.kept = model,encoder_of(model),eps,to_weights,0.

    def attention(self, m, x, seen, hidden, R):
        "Relevance of the queries' words `x` and of the words `seen`, and what the heads found"
        n,wide = len(seen)-len(x),m.n_heads*m.d_head
        w,b = m.attention.weight,m.attention.bias
        parts = [(w[i*wide:(i+1)*wide], None if b is None else b[i*wide:(i+1)*wide]) for i in range(3)]
        def heads(z): return z.view(len(z), m.n_heads, m.d_head).transpose(0, 1)
        def flat(z): return z.transpose(0, 1).reshape(-1, wide)
        q,k,v = (heads(F.linear(o, *p)) for o,p in zip((x,seen,seen), parts))
        u = self.enc.u if hasattr(self.enc, 'u') else torch.zeros(m.n_heads, 1, m.d_head, dtype=x.dtype)
        content,place = (q+u)@k.mT,0.
        if hasattr(m, 'r_attn'):
            dist = n+torch.arange(len(x))[:,None]-torch.arange(len(seen))
            r = heads(m.r_attn(self.enc.pos_enc(dist.flatten()))).view(m.n_heads, *dist.shape, m.d_head)
            place = torch.einsum('hid,hijd->hij', q+self.enc.v, r)
        s = ((content+place)*m.scale).masked_fill(hidden, 0)
        a = s.masked_fill(hidden, -torch.inf).softmax(-1)
        found = flat(a@v)
        if R is None: return found
        G = heads(linear(found, m.out.weight, m.out.bias, R, self.eps)/found)
        R_a,R_v = self.share*a*(G@v.mT),(1-self.share)*v*(a.mT@G)
        R_s = s*(R_a/a.clamp(min=1e-300)*a-a*R_a.sum(-1, keepdim=True))
        self.kept = self.kept+(R_a.sum()-R_s.sum())
        G = R_s/torch.where(hidden, 1, content+place)
        R_u,R_k = (q+u)*(G@k)/2,k*(G.mT@(q+u))/2
        R_q = R_u*q/(q+u)
        if hasattr(m, 'r_attn'): R_q = R_q+(q+self.enc.v)*torch.einsum('hij,hijd->hid', G, r)*q/(q+self.enc.v)
        R_x,R_k,R_v = (linear(o, *p, flat(R), self.eps) for o,p,R in zip((x,seen,seen), parts, (R_q,R_k,R_v)))
        return R_x, R_k+R_v

    def layer(self, l, x, seen, hidden, R=None):
        "What a layer makes of `x`; with `R` the relevance of `x` and of `seen`"
        m,(w1,act,*_) = l.mhra,l.ff.layers
        w2,ln2 = [o for o in l.ff.layers if isinstance(o, nn.Linear)][1],l.ff.layers[-1]
        found = m.out(self.attention(m, x, seen, hidden, None))
        y = m.ln(x+found)
        a = act(w1(y))
        thought = w2(a)
        if R is None: return ln2(y+thought)
        direct,R_t = added([y,thought], norm(ln2, y+thought, R))
        R_y = direct+linear(y, w1.weight, w1.bias, linear(a, w2.weight, w2.bias, R_t, self.eps), self.eps)
        direct,R_f = added([x,found], norm(m.ln, x+found, R_y))
        R_x,R_seen = self.attention(m, x, seen, hidden, R_f)
        return direct+R_x, R_seen

    def windows(self, n):
        "Transformer: start and end of each window, and from where to where its outputs count"
        ctx,keep = self.enc.ctx_len,self.enc.ctx_len//2
        starts = [0]
        while starts[-1]+ctx<n: starts.append(starts[-1]+ctx-keep)
        seams = [0]+[s+(keep if self.enc.mask else keep//2) for s in starts[1:]]+[n]
        return [(s, min(s+ctx, n), a, b) for s,a,b in zip(starts, seams, seams[1:])]

    def transformer(self, words, head):
        runs,states = [],[]
        for s,e,a,b in self.windows(len(words)):
            pos = self.enc.pos_enc(torch.arange(e-s))
            hidden = torch.ones(e-s, e-s, dtype=torch.bool).triu(1) if self.enc.mask else torch.zeros(e-s, e-s, dtype=torch.bool)
            xs = [words[s:e]+pos]
            for l in self.enc.layers: xs.append(self.layer(l, xs[-1], xs[-1], hidden))
            runs.append((s, e, a, b, pos, hidden, xs)), states.append(xs[-1][a-s:b-s])
        R_last,R_words,R_pos = head(torch.cat(states)),torch.zeros_like(words),0.
        for s,e,a,b,pos,hidden,xs in runs:
            R = torch.zeros_like(xs[-1])
            R[a-s:b-s] = R_last[a:b]
            for l,x in zip(reversed(self.enc.layers), reversed(xs[:-1])): R = sum(self.layer(l, x, x, hidden, R))
            R,R_p = added([words[s:e],pos], R)
            R_words[s:e] += R
            R_pos = R_pos+R_p.sum()
        return R_words.sum(1), R_pos

    def xl(self, words, head):
        enc,n,starts = self.enc,len(words),range(0, len(words), self.enc.ctx_len)
        hs = [words]+[torch.zeros_like(words) for _ in enc.layers]
        def segment(s):
            e,first = min(s+enc.ctx_len, n),max(0, s-enc.mem_len)
            hidden = torch.ones(e-s, e-first, dtype=torch.bool).triu(1+s-first) if enc.mask else torch.zeros(e-s, e-first, dtype=torch.bool)
            return slice(s, e), slice(first, e), hidden
        for s in starts:
            own,seen,hidden = segment(s)
            for i,l in enumerate(enc.layers): hs[i+1][own] = self.layer(l, hs[i][own], hs[i][seen], hidden)
        Rs = [torch.zeros_like(words) for _ in enc.layers]+[head(hs[-1])]
        for s in reversed(starts):
            own,seen,hidden = segment(s)
            for i in reversed(range(len(enc.layers))):
                R_x,R_seen = self.layer(enc.layers[i], hs[i][own], hs[i][seen], hidden, Rs[i+1][own])
                Rs[i][own] += R_x
                Rs[i][seen] += R_seen
        return Rs[0].sum(1), 0.

    @torch.no_grad()
    def __call__(self, ids, target):
        words = self.enc.encoder(torch.tensor(ids))
        def head(x): return x*Head(self.model).relevance(x, target, self.eps)[0]
        return (self.xl if isinstance(self.enc, TransformerXL) else self.transformer)(words, head)

grid = [(arch, task, mask) for arch in (Transformer,TransformerXL) for task,mask in (('clas',False),('clas',True),('lm',True))]

@pytest.mark.parametrize('n', [1,2,6,7,9,17])
@pytest.mark.parametrize('arch,task,mask', grid)
def test_by_hand(arch, task, mask, n):
    "A5: one pass of autograd equals the rules written down literally, to 1e-10: up to, at and beyond a window, and through several segments of memory"
    m = net(arch, task, mask=mask, act='GeLU')
    by_hand = ByHand(m)
    want,positions = by_hand(ids[:n], goals['margin'])
    r,scores,rest = attention_lrp(m, ids[:n], goals['margin'])
    assert torch.allclose(r, want, atol=1e-10*max(1, float(want.abs().max())), rtol=0)
    assert abs(rest['positions']-float(positions))<1e-9*max(1, abs(rest['positions']))
    with torch.no_grad(): own = m.step(torch.tensor(ids[None,:n]))[0][0,-1] if task=='lm' else m(torch.tensor(ids[None,:n]))[0][0]
    assert torch.allclose(scores, own, atol=1e-10)

@pytest.mark.parametrize('kw', [dict(act='Swish', scale=False), dict(act='ReLU', bias=False), dict(act='GeLU', double_drop=True)])
@pytest.mark.parametrize('to_weights,eps,goal', [(.5,.05,'logit'), (0.,0.,'prob'), (1.,0.,'margin')])
@pytest.mark.parametrize('arch', [Transformer,TransformerXL])
def test_options(arch, kw, to_weights, eps, goal):
    "Each option of the model and of the method, against the rules written down; with a pool shorter than the text"
    m = net(arch, max_len=5, **kw)
    want,_ = ByHand(m, eps, to_weights)(ids, goals[goal])
    r,_,_ = attention_lrp(m, ids, goals[goal], eps, to_weights)
    assert torch.allclose(r, want, atol=1e-10*max(1, float(want.abs().max())), rtol=0)

@pytest.mark.parametrize('arch,task,mask', grid)
def test_account(arch, task, mask):
    "A5: words, positions, biases and what the softmaxes keep are the score; with weights as constants nothing is kept; without biases words and positions are all"
    m = net(arch, task, mask=mask)
    for share in (.5,0.):
        by_hand = ByHand(m, to_weights=share)
        by_hand(ids, goals['margin'])
        r,scores,rest = attention_lrp(m, ids, goals['margin'], to_weights=share)
        f = float(goals['margin'](scores))
        scale = max(1, float(r.abs().max()))
        assert abs(float(r.sum())+sum(rest.values())+float(by_hand.kept)-f)<1e-9*scale
        assert (abs(float(by_hand.kept))>1e-3)==(share>0)
    for k,p in m.named_parameters():
        if 'bias' in k or k.split('.')[-1] in 'uv': p.data.zero_()
    for k,b in m.named_buffers():
        if 'running_mean' in k: b.zero_()
    r,scores,rest = attention_lrp(m, ids, goals['margin'], to_weights=0.)
    assert abs(float(r.sum())+rest['positions']-float(goals['margin'](scores)))<1e-9*max(1, float(r.abs().max())) and abs(rest['biases'])<1e-12
    assert (rest['positions']!=0)==(arch is Transformer)

def test_linear_model():
    "A3: where a Transformer is a sum of its words, constant weights give what all methods give; halves give the words that come through attention half of it"
    m = net(Transformer, n_layers=1, act=nn.Identity, mask=False)
    layer = encoder_of(m).layers[0]
    layer.mhra.ln,layer.ff.layers[-1],m[1].layers = nn.Identity(),nn.Identity(),nn.Sequential(m[1].layers[-1])
    layer.mhra.attention.weight.data[:16],layer.mhra.attention.bias.data[:16] = 0,0
    m[1].layers[0].weight = nn.Parameter(torch.cat([torch.zeros(3, 16), torch.randn(3, 8)], 1).double())
    m[1].layers[0].bias = nn.Parameter(torch.zeros(3).double())
    assert no_rules(m) is None
    def gxi(m):
        x = encoder_of(m).encoder(torch.tensor(ids[:6]))[None].detach().requires_grad_()
        return (torch.autograd.grad(goals['margin'](class_scores(m, x)[0]), x)[0]*x)[0].sum(1).detach()
    assert torch.allclose(attention_lrp(m, ids[:6], goals['margin'], to_weights=0.)[0], gxi(m), atol=1e-10)
    r = attention_lrp(m, ids[:6], goals['margin'])[0]
    layer.mhra.out.weight.data.mul_(.5)
    assert torch.allclose(r, gxi(m), atol=1e-10)

@pytest.mark.parametrize('mem_len', [0,3,6])
def test_memory(mem_len):
    "Relevance comes back from as many words as the memory holds in each layer, and from none beyond"
    m = net(TransformerXL, 'lm', ctx_len=4, mem_len=mem_len)
    r = attention_lrp(m, ids, goals['logit'])[0]
    first = 16
    for _ in encoder_of(m).layers: first = max(0, first//4*4-mem_len)
    assert (r[:first]==0).all() and (r[first:]!=0).all()

def state(m): return [o.training for o in m.modules()],[p.requires_grad for p in m.parameters()],[p.grad for p in m.parameters()],[p.detach().sum().item() for p in m.parameters()],torch.get_rng_state().tolist(),torch.is_grad_enabled()

@pytest.mark.parametrize('arch', [Transformer,TransformerXL])
def test_model_is_left_alone(arch):
    "A8: nothing of the model changes, after an error neither; frozen weights, train mode, no_grad and inference mode make no difference; the twin shares all weights"
    m = net(arch)
    want = attention_lrp(m, ids, goals['margin'])[0]
    m.train().requires_grad_(False)
    before = state(m)
    with torch.no_grad(): assert torch.equal(attention_lrp(m, ids, goals['margin'])[0], want)
    with torch.inference_mode(): assert torch.equal(attention_lrp(m, ids, goals['margin'])[0], want)
    def broken(s): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): attention_lrp(m, ids, broken)
    assert state(m)==before
    view = with_rules(m)
    assert all(a.data_ptr()==b.data_ptr() for a,b in zip(m.parameters(), view.parameters()))
    assert not any(o.training for o in view.modules()) and type(encoder_of(view).layers[0].mhra) is not type(encoder_of(m).layers[0].mhra)

def test_threads():
    "Many threads explain one model at once, and all get what one gets"
    m,res = net(TransformerXL).train(),{}
    want = [attention_lrp(m, ids[:k], goals['margin'])[0] for k in range(1, 13)]
    def work(k): res[k] = attention_lrp(m, ids[:k], goals['margin'])[0]
    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 13)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert all(torch.equal(res[k], w) for k,w in enumerate(want, 1)) and m.training

def test_half():
    "A model in bfloat16 is explained in its own numbers"
    m = net(Transformer, 'lm').bfloat16()
    r,scores,_ = attention_lrp(m, ids, goals['margin'])
    with torch.no_grad(): own = m.step(torch.tensor(ids[None]))[0][0,-1]
    assert torch.isfinite(r).all() and torch.allclose(scores.float(), own.float(), atol=.1)

small = dict(ctx_len=8, n_layers=2, n_heads=2, d_model=16, d_head=8, d_inner=32)

@pytest.fixture(scope='module')
def learners(tmp_path_factory):
    made = {}
    def get(arch, task='clas', **kw):
        key = arch,task,*kw.items()
        if key not in made:
            set_seed(0)
            make,data = (language_model_learner,lm_data) if task=='lm' else (text_classifier_learner,clas_data)
            made[key] = make(data(tmp_path_factory.mktemp('l')), arch, config=small|kw, pretrained=False, silent=True)
        return made[key]
    return get

@pytest.mark.parametrize('task', ['clas','lm'])
@pytest.mark.parametrize('arch', [Transformer,TransformerXL])
def test_method(learners, arch, task):
    "A1, A9: `attribute` by both names: the number that is explained is the model's, the account closes, and a class turned round turns each sign"
    l = learners(arch, task)
    for text in ('a great film', 'the film was a long story of two people and the music was great', '', '<b>😀 "x"</b>\n電影'):
        a = attribute(l, text, 'lrp', target='margin')
        assert a.method=='lrp' and a==attribute(l, text, 'attnlrp') and len(a.scores)==len(a.tokens) and np.isfinite(a.scores).all()
        assert abs(a.value-attribute(l, text, 'gxi').value)<1e-4 and abs(a.gap-(a.scores.sum()-a.value))<1e-9
        b = attribute(l, text, 'lrp', to_weights=0)
        assert abs(b.gap+b.details['positions']+b.details['biases'])<1e-3*max(1, np.abs(b.scores).sum())
    a,b = (attribute(l, 'a great film', 'lrp', class_id=i, contrast=j) for i,j in ((0,1),(1,0)))
    assert np.allclose(a.scores, -b.scores, atol=1e-5) and a.tokens[0]=='xxbos'

def test_live(learners):
    "The live engine takes the slow path, says why in words that are true, and shows relevance"
    l = learners(Transformer)
    r = LiveText(l).update('a great film')
    assert not r.live and 'step by step' in r.why and r.attribution.method=='lrp' and np.allclose(r.attribution.scores, attribute(l, 'a great film', 'lrp').scores, atol=1e-6)

def test_who_has_none(learners):
    "What has no rule is named: somebody's own attention, activation or encoder, another architecture; and an option that makes no sense"
    class MyAttention(MultiHeadAttention): pass
    class Square(nn.Module):
        def forward(self, x): return x*x
    for kw,name in ((dict(attn_cls=MyAttention),'MyAttention'),(dict(act=Square),'Square')):
        l = learners(Transformer, **kw)
        assert 'lrp' not in methods_of(l)
        with pytest.raises(ValueError, match=f"Transformer has no method 'lrp': LRP has no rule for {name}, .*there are") as e: attribute(l, 'a', 'lrp')
        assert '\n' not in str(e.value)
        with pytest.raises(NotImplementedError, match=name): attention_lrp(l.model, [2], goals['logit'])
    class MyTransformer(Transformer): pass
    assert 'MyTransformer' in no_rules(SequentialRNN(MyTransformer(30, **tiny), LinearDecoder(30, 8, 0.)))
    gru = text_classifier_learner(learners(Transformer).data, SimpleGRU, config=dict(emb_sz=8, n_hid=8, n_layers=1), pretrained=False, silent=True)
    with pytest.raises(ValueError, match='none for SimpleGRU'): attribute(gru, 'a', 'lrp')
    awd = text_classifier_learner(learners(Transformer).data, AWD_LSTM, config=dict(emb_sz=8, n_hid=8, n_layers=1), pretrained=False, silent=True)
    assert np.isfinite(attribute(awd, 'a film', 'lrp', eps=.01).scores).all()
    with pytest.raises(ValueError, match='to_weights=0 is for models with attention'): attribute(awd, 'a', 'lrp', to_weights=0)

def test_nan(learners):
    "NaN in the weights is named"
    l = copy.copy(learners(Transformer))
    l.model = copy.deepcopy(l.model)
    with torch.no_grad(): encoder_of(l.model).layers[0].mhra.out.weight[0,0] = float('nan')
    with pytest.raises(ValueError, match='mhra.out.weight hold NaN'): attribute(l, 'a film', 'lrp')

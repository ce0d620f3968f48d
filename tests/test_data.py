"Loaders, data block and data bunches: parity with fastai v1, the checks of its inventory, and bad input"
import json,random,subprocess,sys,warnings
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st

from textnb.base import ArchiveError, DatasetType, get_rng_state, save_archive
from textnb.text import *
from textnb.train import BCEWithLogitsFlat, CrossEntropyFlat, MSELossFlat

GOLD = Path(__file__).parent/'goldens'
pytestmark = [pytest.mark.filterwarnings('error'), pytest.mark.filterwarnings('ignore:.*occur in training as well')] # few texts, repeated

def frame(n=100, **cols):
    rng = random.Random(0)
    words = dict(neg='bad dull poor awful'.split(), pos='good great fine lovely'.split())
    labels = ['neg','pos']*(n//2)
    df = pd.DataFrame(dict(label=labels, text=[f'The film is {" and ".join(rng.choices(words[l], k=rng.randint(1,9)))}.' for l in labels], is_valid=[i%5==0 for i in range(n)]))
    return df.assign(**cols)

@pytest.fixture
def csv(tmp_path):
    frame().to_csv(tmp_path/'texts.csv', index=False)
    return tmp_path

def jagged(rng, n=20, most=40): return [rng.integers(0, 60000, k) for k in rng.integers(0, most, n)]+[np.arange(5)]

# ------------------------------------------------------------------ the stream

@pytest.mark.parametrize('name,backwards', [('forward',False),('backward',True)])
def test_stream_golden(name, backwards):
    "Check 6: arrays made by fastai 1.0.61"
    z = np.load(GOLD/f'lm_stream_{name}.npz')
    dl = LMLoader([z[f'doc{i}'] for i in range(6)], bs=3, bptt=6, backwards=backwards, device='cpu')
    assert np.array_equal(torch.cat([x for x,_ in dl]), z['x'])
    assert np.array_equal(torch.cat([y for _,y in dl]), z['y'])

@pytest.mark.parametrize('backwards', [False,True])
def test_stream_contiguous(backwards):
    "Checks 6 and 7, v1's preloader test: 1000 random jagged sets; batch k+1 goes on where batch k ended, in every row"
    rng = np.random.default_rng(0)
    for _ in range(500):
        docs,bs,bptt = jagged(rng),int(rng.integers(1,12)),int(rng.integers(1,30))
        pl = LanguageModelPreLoader(docs, bs=bs, bptt=bptt, backwards=backwards)
        flat = np.concatenate(docs)[::-1 if backwards else 1]
        T = len(flat)
        assert pl.n_batches==-(-T//(bptt*bs)) and len(pl)==pl.n_batches*bs
        rows = np.concatenate([pl.batch(k)[:,:-1] for k in range(pl.n_batches)], 1)
        for j,row in enumerate(rows): assert np.array_equal(row, flat.take(range(int(T/bs*j), int(T/bs*j)+len(row)), mode='wrap'))
        for k in range(pl.n_batches-1): assert np.array_equal(pl.batch(k)[:,-1], pl.batch(k+1)[:,0])

@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0,9), max_size=9), min_size=1, max_size=9).filter(lambda o: any(o)), st.integers(1,5), st.integers(1,7), st.integers(0,3))
def test_stream_shuffled_is_a_permutation_of_documents(docs, bs, bptt, epoch):
    pl = LanguageModelPreLoader(docs, bs=bs, bptt=bptt, shuffle=True, seed=3)
    order,starts = pl.doc_order(epoch)
    assert sorted(order)==list(range(len(docs)))
    flat = np.concatenate([np.asarray(docs[i], dtype=np.int64) for i in order])
    for k in range(pl.n_batches):
        for j,row in enumerate(pl.batch(k, epoch)):
            a = int(len(flat)/bs*j)+k*bptt
            assert np.array_equal(row, flat.take(range(a, a+bptt+1), mode='wrap'))

def test_backward_stream_is_the_reverse():
    "Check 7"
    docs = jagged(np.random.default_rng(1))
    f,b = (LanguageModelPreLoader(docs, bs=1, bptt=10**4, backwards=o).batch(0)[0] for o in (False,True))
    n = sum(map(len, docs))
    assert np.array_equal(f[:n], b[:n][::-1])

def test_reading_leaves_no_trace():
    "Check 8, A17: looking at data, in any way and by any number of workers, changes no later batch; other epochs differ, the first is shuffled"
    df = frame()
    mk = lambda: TextLMDataBunch.from_df('.', df[:80], df[80:], bs=4, val_bs=3, bptt=5, seed=7)
    a,b = mk(),mk()
    for _ in range(3): a.one_batch()
    list(zip(range(2), a.train_dl))
    pl = a.train_dl.stream
    rows = list(torch.utils.data.DataLoader(pl, batch_size=4, num_workers=2))
    for e in range(3):
        for dl in (a.train_dl, b.train_dl): dl.set_epoch(e)
        xs = [torch.cat(o).cpu() for o in a.train_dl]
        assert all(torch.equal(x, torch.cat(o).cpu()) for x,o in zip(xs, b.train_dl))
        if e==0: assert all(torch.equal(x, torch.cat(o)) for x,o in zip(xs, rows)) and len(xs)==len(rows)
    first = [a.train_dl.stream.doc_order(e)[0].tolist() for e in range(3)]
    assert len({tuple(o) for o in first})==3 and first[0]!=sorted(first[0])

def test_val_bs_is_free():
    "Check 8, A18: a validation batch size of its own reads every token once"
    df = pd.DataFrame(dict(label=0, text=[' '.join(f'w{i}x' for i in range(100))]*2))
    data = TextLMDataBunch.from_df('.', df[:1], df[1:], bs=4, val_bs=2, bptt=5, min_freq=1, include_bos=False)
    assert data.one_batch()[0].shape==(4,5)
    x = torch.cat([x for x,_ in data.valid_dl], 1)
    assert x.shape[0]==2 and torch.equal(x.flatten().cpu(), torch.from_numpy(data.valid_ds.store[0].astype(np.int64)))
    data.batch_size = 10
    assert data.train_dl.one_batch()[0].shape==(10,5) and data.valid_dl.batch_size==2
    assert data.fix_dl.batch_size==10

def test_resume_in_the_middle():
    data = TextLMDataBunch.from_df('.', frame(), frame(), bs=2, bptt=3, seed=0)
    data.train_dl.set_epoch(5)
    assert all(torch.equal(a, b) for (a,_),(b,_) in zip(data.train_dl.iter_from(7), list(data.train_dl)[7:]))

def test_stream_of_nothing():
    with pytest.raises(ValueError, match='no token'): LanguageModelPreLoader([[],[]])

# ------------------------------------------------------------------ documents

@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0,300), min_size=1, max_size=120), st.integers(1,17), st.integers(0,4))
def test_sortish(lens, bs, seed):
    "Check 9, B3: a permutation; the first batch holds the longest; every batch but the last is full and of one pool"
    o = list(SortishSampler(lens, lens, bs, seed=seed))
    assert sorted(o)==list(range(len(lens))) and lens[o[0]]==max(lens)
    full = len(lens)//bs*bs
    for i in range(0, full, bs): assert [lens[j] for j in o[i:i+bs]]==sorted((lens[j] for j in o[i:i+bs]), reverse=True)

@given(st.lists(st.integers(0,300), max_size=50))
def test_sort_sampler(lens):
    "Check 9"
    assert [lens[i] for i in SortSampler(lens, lambda i: lens[i])]==sorted(lens, reverse=True)

@settings(deadline=None)
@given(st.lists(st.lists(st.integers(2,99), max_size=12), min_size=1, max_size=9), st.booleans(), st.booleans())
def test_padding(docs, pad_first, backwards):
    "B8 and v1's collate: every row is its document and pads on one side, also when it is empty"
    x = pad_batch(as_store(docs), range(len(docs)), 1, pad_first, backwards)
    assert x.shape==(len(docs), max(1, *map(len, docs), 1))
    for row,d in zip(x.tolist(), docs):
        d,p = d[::-1] if backwards else d,[1]*(x.shape[1]-len(d))
        assert row==(p+d if pad_first else d+p)
    xb,yb = pad_collate([(d, i) for i,d in enumerate(docs)], 1, pad_first, backwards)
    assert np.array_equal(xb, x) and yb.tolist()==list(range(len(docs)))

def test_backward_classifier_batches():
    "Check 7, A2: a backward batch is the forward one with tokens reversed and pads in front; the bunch knows its direction"
    df = frame()
    f,b = (TextClasDataBunch.from_df('.', df[:80], df[80:], bs=8, seed=1, backwards=o) for o in (False,True))
    assert (f.backwards,b.backwards)==(False,True)
    for (x,_),(r,_) in zip(f.valid_dl, b.valid_dl):
        for p,q in zip(x.tolist(), r.tolist()):
            n = p.count(1)
            assert q[:n]==[1]*n and q[n:]==p[n:][::-1]

def test_train_loader():
    "B6, B15: the order is known; the short batch is left out in training only, and kept if there is no other"
    data = TextClasDataBunch.from_df('.', frame(), frame(), bs=16, seed=0)
    assert len(data.train_dl)==6 and len(data.train_dl.order())==96 and len(data.fix_dl)==7 and sorted(data.fix_dl.order())==list(range(100))
    for dl in (data.train_dl, data.valid_dl, data.fix_dl):
        o = dl.order()
        for i,(x,y) in enumerate(dl): assert np.array_equal(y.cpu(), dl.dataset.labels[o[i*16:(i+1)*16]])
    assert len(TextClasDataBunch.from_df('.', frame(), frame(), bs=500).train_dl)==1

def test_lengths_are_not_textified():
    "C2: making an order reads no text"
    data = TextClasDataBunch.from_df('.', frame(), frame(), bs=16, seed=0)
    data.train_ds.x.processor.vocab.textify = None
    assert len(data.train_dl.order())==96

def test_custom_sampler_and_weights():
    "B15 (#2171): a sampler of one's own, and classes drawn by weight"
    df = pd.concat([frame()[lambda o: o.label=='neg'], frame()[lambda o: o.label=='pos'][:5]])
    mk = lambda **kw: TextClasDataBunch.from_df('.', df, df[-20:], bs=10, seed=0, **kw)
    assert mk(sampler=[3,2,1]).train_dl.order().tolist()==[3,2,1]
    share = [mk(weights=w).train_ds.labels[mk(weights=w).train_dl.order()].mean() for w in (None,'balanced',{'neg':0,'pos':1})]
    assert share[0]<.15 and .25<share[1]<.75 and share[2]==1
    with pytest.raises(ValueError, match="the data have \\['neg', 'pos'\\]"): mk(weights={'a':1})
    with pytest.raises(ValueError, match='balanced'): mk(weights='even')
    before = get_rng_state()
    dl = mk(sampler=lambda ds: torch.utils.data.RandomSampler(ds)).train_dl
    one = dl.order()
    dl.set_epoch(1)
    assert len(set(one))==len(one)==50 and not np.array_equal(one, dl.order())
    assert get_rng_state()==before

# ------------------------------------------------------------------ factories

def test_seed_code(csv):
    "The seed's two lines, unchanged"
    path = csv
    data = TextLMDataBunch.from_csv(path, 'texts.csv')
    assert data.is_lm and data.bptt==70 and data.batch_size==64 and isinstance(data.loss_func, CrossEntropyFlat)
    data = TextClasDataBunch.from_csv(path, 'texts.csv')
    assert not data.is_lm and data.classes==['neg','pos'] and data.c==2 and len(data.valid_ds)==21 and data.path==path
    assert isinstance(data.loss_func, CrossEntropyFlat) and data.batch_size==64

def test_random_parts_follow_fastai_and_leave_the_generators_alone(csv):
    "Law 8; with `np.random.seed(2)` before, the parts are those of fastai v1"
    np.random.seed(2)
    if torch.cuda.is_available(): torch.cuda.init()
    before = get_rng_state()
    data = TextClasDataBunch.from_csv(csv, 'texts.csv', by_text=False)
    s = TextList.from_df(frame(), cols='text').split_by_rand_pct(.1, by_text=False)
    data.one_batch(), list(data.train_dl), TextLMDataBunch.from_csv(csv, 'texts.csv').one_batch()
    assert get_rng_state()==before
    p = np.random.RandomState(2).permutation(100)
    assert [data.valid_ds.raw_text(i) for i in range(21)]==list(frame().text[p[:21]])
    assert list(s.valid.items)==list(frame().text[p[:10]])
    a,b = (TextClasDataBunch.from_csv(csv, 'texts.csv', seed=5) for _ in range(2))
    assert np.array_equal(a.train_dl.order(), b.train_dl.order())

def test_from_folder(tmp_path):
    "v1: counts, classes, test folder; `classes` leaves the others out with a warning"
    for i,r in frame(20).iterrows():
        f = tmp_path/('valid' if r.is_valid else 'train')/r.label/f'{i}.txt'
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text(r.text, encoding='utf-8')
    (tmp_path/'test').mkdir()
    (tmp_path/'test'/'x.txt').write_text('The film is good.')
    (tmp_path/'train'/'notes.md').write_text('not a text')
    (tmp_path/'train'/'.hidden').mkdir()
    (tmp_path/'train'/'.hidden'/'y.txt').write_text('no')
    data = TextClasDataBunch.from_folder(tmp_path, test='test', bs=4)
    assert (len(data.train_ds),len(data.valid_ds),len(data.test_ds),data.classes)==(16,4,1,['neg','pos'])
    with pytest.warns(UserWarning, match="among the classes: 'neg'"), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='there is only one class')
        data = TextClasDataBunch.from_folder(tmp_path, classes=['pos'], bs=4)
    assert set(data.train_ds.labels)=={0} and len(data.train_ds)==8
    lm = TextLMDataBunch.from_folder(tmp_path, bs=2, bptt=5)
    assert lm.train_ds.store.n_tokens==sum(lm.train_ds.store.lengths) and lm.train_ds[0][0].raw==lm.train_ds.raw_text(0)

def test_from_df_multi_label():
    "v1: label_delim, and several columns of ones and zeros"
    df = frame().assign(tags=['a;b','b','']*33+['a;c'])
    data = TextClasDataBunch.from_df('.', df, df[:10], text_cols='text', label_cols='tags', label_delim=';', bs=4)
    assert data.classes==['a','b','c'] and data.c==3 and isinstance(data.loss_func, BCEWithLogitsFlat)
    x,y = data.one_batch(DatasetType.Valid)
    assert y.dtype==torch.float32 and y.shape==(4,3)
    assert str(data.train_ds[0][1])=='a;b' and str(data.train_ds[2][1])==''
    df = frame().assign(fun=[1,0]*50, long=[True,True]*50)
    data = TextClasDataBunch.from_df('.', df, df[:10], text_cols='text', label_cols=['fun','long'], bs=4)
    assert data.classes==['fun','long'] and data.train_ds.labels[:2].tolist()==[[1,1],[0,1]] and data.train_ds[1][1].obj==['long']
    cat,t,p = data.decode_pred(torch.tensor([.9,.2]))
    assert cat.obj==['fun'] and t.tolist()==[1,0]

def test_regression():
    "v1: c==1; and several numbers a text"
    df = frame().assign(label=np.linspace(0,1,100))
    data = TextClasDataBunch.from_df('.', df, df[:10], text_cols='text', label_cols='label', bs=4)
    assert data.c==1 and isinstance(data.loss_func, MSELossFlat) and data.classes is None
    assert data.one_batch()[1].dtype==torch.float32 and data.one_batch()[1].shape==(4,)
    assert float(data.decode_pred(torch.tensor([.25]))[0])==.25
    df = df.assign(b=.5)
    data = TextClasDataBunch.from_df('.', df, df[:10], text_cols='text', label_cols=['label','b'], bs=4)
    assert data.c==2 and data.one_batch()[1].shape==(4,2) and isinstance(data.loss_func, MSELossFlat)
    ll = TextList.from_df(df, cols='text').split_by_idx(range(9)).label_from_df('b', label_cls=FloatList, log=True)
    assert np.allclose(ll.train.labels, np.log(.5)) and float(ll.train[0][1])==pytest.approx(.5)

@pytest.mark.parametrize('max_vocab', [5,13,16])
def test_max_vocab_and_vocab_of_all_sets(max_vocab):
    "v1: max_vocab 5 to 13; one vocab for train, valid and test"
    df = frame()
    with pytest.warns(UserWarning, match='are not in the vocabulary'):
        data = TextClasDataBunch.from_df('.', df, df, df[['text']], text_cols='text', label_cols='label', max_vocab=max_vocab)
    assert len(data.vocab)==max_vocab and data.train_ds.vocab is data.valid_ds.vocab is data.test_ds.vocab is data.vocab

def test_from_ids_and_tokens():
    "v1: ids of equal and of unequal length; B18: a language model with a test set"
    itos = [f'w{i}' for i in range(30)]
    for tr,va in (([[0]]*10,[[1]]*5), ([[0]*(i+1) for i in range(10)],[[1]*(i+1) for i in range(5)])):
        data = TextClasDataBunch.from_ids('.', Vocab(itos), tr, va, [[2,3]], [0,1]*5, [0,1,0,1,0], classes=['a','b'], bs=4)
        assert [o.tolist() for o in data.train_ds.x.items]==tr and data.classes==['a','b'] and data.test_ds.store[0].tolist()==[2,3]
        assert TextLMDataBunch.from_ids('.', Vocab(itos), tr, va, [[2,3]], bs=2).test_ds.text(0)=='w2 w3'
    data = TextClasDataBunch.from_ids('.', itos, tr, va, train_lbls=np.eye(10)[:,:3], valid_lbls=np.eye(5)[:,:3], classes=list('abc'), bs=4)
    assert data.c==3 and data.train_ds.y.kind=='multi'
    with pytest.raises(ValueError, match='train_lbls'): TextClasDataBunch.from_ids('.', itos, tr, va)
    with pytest.raises(ValueError, match='label 1 has no name'): TextClasDataBunch.from_ids('.', itos, tr, va, None, [0,1]*5, [0]*5, classes=['a'])
    d = TextLMDataBunch.from_tokens('.', [['a','b']]*9, None, [['b','c']], None, bs=2)
    assert d.vocab.textify(d.valid_ds.store[0])=='b xxunk'

def test_columns_and_marks():
    "Several text columns, with and without marks, at training and for one text"
    df = frame().assign(title='A Title')
    data = TextClasDataBunch.from_df('.', df[:80], df[80:], text_cols=['title','text'], label_cols='label', mark_fields=True, include_eos=True, bs=4)
    t = data.train_ds.text(0).split()
    assert t[:6]==['xxbos','xxfld','1','a','xxmaj','title'] and t[-1]=='xxeos' and 'xxfld 2' in ' '.join(t)
    assert np.array_equal(data.encode(('A Title', df.text[0])), data.train_ds.store[0])
    assert data.train_ds.raw_text(0)==f'A Title {df.text[0]}'

def test_train_and_predict_tokens_are_the_same():
    "Check 5, A13: newlines, double spaces, emoji, HTML, NUL, lone surrogates, a text of 1 MB"
    texts = ['one\n\ntwo', 'two  spaces   here', 'an emoji 😀!!!!!', 'some<br />HTML &amp; #39;quotes', 'a\0b \x07', 'half \ud83d pair', ' lead and trail ', 'ÉCOLE École', 'x'*10**6, 'word '*20000]
    ll = TextList(texts, processor=TextProcessor(min_freq=1)).split_by_idx([1]).label_for_lm()
    data = ll.databunch(bs=2)
    for ds in (ll.train, ll.valid):
        for i in range(len(ds)):
            assert np.array_equal(data.encode(ds.raw_text(i)), ds.store[i])
            assert len(data.tokens(ds.raw_text(i)))==len(ds.store[i])

def test_custom_rule_and_tokenizer(csv):
    "v1: a rule of one's own; a class of tokenizers"
    @register_rule
    def no_films(t): return t.replace('film','xxx')
    tok = Tokenizer(BaseTokenizer, pre_rules=[no_films], post_rules=[])
    data = TextClasDataBunch.from_csv(csv, 'texts.csv', tokenizer=tok, seed=0)
    assert 'xxx' in data.train_ds.text(0) and 'film' not in data.vocab.stoi
    assert TextClasDataBunch.from_csv(csv, 'texts.csv', tokenizer=BaseTokenizer).train_ds.text(0).startswith('xxbos xxmaj the film')
    again = DataBunch.from_state(json.loads(json.dumps(data.export_state())))
    assert again.tokens('A film')==data.tokens('A film')==['xxbos','A','xxx']

def test_processors_by_fastai_names(csv):
    p = [OpenFileProcessor(), TokenizeProcessor(include_eos=True), NumericalizeProcessor(min_freq=1)]
    ll = TextList.from_csv(csv, 'texts.csv', cols='text', processor=p).split_from_df('is_valid').label_from_df('label')
    assert ll.train.text(0).endswith('xxeos') and not (ll.train.store.ids==0).any()

def test_subwords(csv):
    pytest.importorskip('sentencepiece')
    data = TextClasDataBunch.from_csv(csv, 'texts.csv', processor=SPProcessor(vocab_sz=72), seed=0)
    assert data.vocab.itos[:9]==['xxunk','xxpad','xxbos','xxeos','xxfld','xxmaj','xxup','xxrep','xxwrep'] and data.train_ds.store[0][0]==2
    again = DataBunch.from_state(json.loads(json.dumps(data.export_state())))
    for i in range(5): assert np.array_equal(again.encode(data.train_ds.raw_text(i)), data.train_ds.store[i])

# ------------------------------------------------------------------ the block

def test_one_list_two_splits():
    "A split never sees the vocabulary of another"
    il = TextList(['only here','only here','only here','there too','there too','there too'], processor=TextProcessor(min_freq=1))
    a,b = il.split_by_idx([3,4,5]).label_for_lm(),il.split_by_idx([0,1,2]).label_for_lm()
    assert 'here' in a.train.vocab.stoi and 'there' not in a.train.vocab.stoi
    assert 'there' in b.train.vocab.stoi and 'here' not in b.train.vocab.stoi
    assert il.vocab is None and il.store is None

def test_label_ways(tmp_path):
    il = TextList([Path('a/pos_1.txt'),Path('b/neg_2.txt')])
    il.processor = TextProcessor(vocab=['xxunk','xxpad','xxbos'])
    for p,t in (('a/pos_1.txt','x'),('b/neg_2.txt','y')):
        (tmp_path/p).parent.mkdir()
        (tmp_path/p).write_text(t)
    il = TextList.from_folder(tmp_path, processor=il.processor)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert il.split_none().label_from_re(r'(\w+)_\d').train.classes==['neg','pos']
        assert il.split_none().label_from_folder().train.classes==['a','b']
        assert il.split_none().label_const(7).train.classes==[7]
        assert il.split_none().label_from_list([.5,1.5]).train.labels.tolist()==[.5,1.5]
        assert il.split_none().label_empty().train.labels.tolist()==[0,0]
        assert il.split_none().label_from_func(lambda o: ['u','v'] if 'a' in o.parts else []).train.labels.tolist()==[[1,1],[0,0]]
    with pytest.raises(ValueError, match='not found in'): il.split_none().label_from_re(r'(\d{9})')
    with pytest.raises(AttributeError, match='split the items before'): il.label_from_folder()
    with pytest.raises(AttributeError, match='split and label'): il.databunch()

def test_custom_sep():
    "B19: a separator of one's own is used everywhere"
    ll = TextList(['a b']*4, sep='_', processor=TextProcessor(min_freq=1)).split_by_idx([0]).label_for_lm()
    assert ll.train.text(0)=='xxbos_a_b'==str(ll.train.x.reconstruct(ll.train.store[0]))

def test_dataset_protocol():
    data = TextClasDataBunch.from_df('.', frame(), frame()[:10], bs=4)
    ds = data.valid_ds
    x,y = ds[3]
    assert isinstance(x, Text) and isinstance(y, Category) and str(y)=='pos' and int(y)==1 and x.raw==frame().text[3]
    assert [len(o) for o in (ds, ds.x, ds.y, ds.labels, ds.store, ds[2:5], ds[[1,2]])]==[10]*5+[3,2]
    assert ds.to_df().x.tolist()==frame().text[:10].tolist() and ds.inner_df.label.tolist()==frame().label[:10].tolist()
    assert data.dl(DatasetType.Single).one_batch()[0].shape[0]==1 and data.dl(DatasetType.Fix) is data.fix_dl
    with pytest.raises(ValueError, match='add_test'): data.dl(DatasetType.Test)

def test_one_item_is_a_prompt():
    "A11: a backward model gets the prompt reversed; no mark that closes a text is fed"
    df = frame()
    mk = lambda **kw: TextLMDataBunch.from_df('.', df, df, include_eos=True, **kw)
    f,b = mk(),mk(backwards=True)
    w = lambda d: d.vocab.textify(d.one_item('the film is')[0][0])
    assert w(f)=='xxbos the film is' and w(b)=='xxeos is film the'
    c = TextClasDataBunch.from_df('.', df, df, backwards=True)
    assert c.vocab.textify(c.one_item('the film is')[0][0])=='is film the xxbos'

def test_show(capsys):
    df = frame().assign(text='<b>bold</b> & "quoted" film')
    data = TextClasDataBunch.from_df('.', df, df, bs=4, min_freq=1)
    data.show_batch(2)
    data.show_batch(1, max_len=3, ds_type=DatasetType.Valid, reverse=True)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith('text') and len(out)==5 and '…' in out[-1]
    TextLMDataBunch.from_df('.', df, df, bs=4).show_batch(1)
    assert capsys.readouterr().out.startswith('idx | text')
    assert '128' not in repr(data) and repr(data).startswith('TextClasDataBunch\nTrain: 100 texts')

# ------------------------------------------------------------------ saving

@pytest.mark.parametrize('cls,kw', [(TextClasDataBunch,{}),(TextClasDataBunch,dict(backwards=True, pad_first=False, label_cols='score')),
    (TextClasDataBunch,dict(label_cols='tags', label_delim=';')),(TextLMDataBunch,dict(bptt=9, backwards=True)),
    (TextClasDataBunch,dict(text_cols=['label','text'], mark_fields=True))])
def test_save_load(tmp_path, cls, kw):
    "v1: what is loaded equals what was saved; the name of fastai's file works too, and no pickle is written"
    df = frame().assign(score=.5, tags=['a','a;b']*50).astype({'text':object})
    df.loc[3,'text'] = 'a lone \ud800 surrogate'
    data = cls.from_df(tmp_path, df[:80], df[80:], bs=8, seed=3, **{**dict(text_cols='text', label_cols='label'), **kw})
    data.add_test(['one more film'] if 'text_cols' not in kw else [('neg','one more film')])
    data.save('data_save.pkl')
    again = load_data(tmp_path, 'data_save.pkl', bs=8)
    assert (tmp_path/'data_save.pkl').read_bytes()[:2]==b'PK' and type(again) is cls
    for d in (DatasetType.Train, DatasetType.Valid, DatasetType.Fix, DatasetType.Test):
        a,b = data.dl(d),again.dl(d)
        assert len(a)==len(b)>0 and all(torch.equal(x, p) and torch.equal(y, q) for (x,y),(p,q) in zip(a, b))
    assert [again.train_ds.raw_text(i) for i in range(80)]==[data.train_ds.raw_text(i) for i in range(80)]
    assert again.classes==data.classes and again.c==data.c and again.export_state()==data.export_state()
    assert str(again.valid_ds[0][1])==str(data.valid_ds[0][1])

def test_save_keeps_the_old_and_names_what_it_is_not(tmp_path):
    data = TextLMDataBunch.from_df(tmp_path, frame(), frame())
    data.save()
    whole = (tmp_path/'data_save.tnb').read_bytes()
    data.train_ds.x.processor.tokenizer.pre_rules = [lambda t: t]
    with pytest.raises(ValueError, match='register_rule'): data.save()
    assert (tmp_path/'data_save.tnb').read_bytes()==whole
    save_archive(tmp_path/'other.tnb', meta=dict(kind='learner'))
    with pytest.raises(ArchiveError, match='not one of data'): load_data(tmp_path, 'other.tnb')
    (tmp_path/'cut.tnb').write_bytes(whole[:-50])
    with pytest.raises(ArchiveError, match='truncated'): load_data(tmp_path, 'cut.tnb')

def test_state_of_an_empty_bunch(tmp_path):
    "An exported bunch encodes, predicts and takes a test set without any text of training"
    data = TextClasDataBunch.from_df('.', frame(), frame(), bs=4, seed=1)
    d = json.loads(json.dumps(data.export_state()))
    assert 'film is' not in json.dumps(d['processor']) and d['vocab']==data.vocab.itos and d['classes']==['neg','pos']
    e = DataBunch.from_state(d, tmp_path)
    assert type(e) is TextClasDataBunch and len(e.train_ds)==len(e.train_dl)==0 and e.c==2 and e.path==tmp_path
    assert torch.equal(e.one_item('The film is new')[0], data.one_item('The film is new')[0])
    assert len(e.add_test(['a','b c']).test_dl)==1 and e.test_ds.raw_text(1)=='b c'
    with pytest.raises(ValueError, match='format'): DataBunch.from_state({**d, 'format':9})
    with pytest.raises(ValueError, match='empty'): e.one_batch()

# ------------------------------------------------------------------ bad input

def test_column_that_is_not_there(csv):
    for kw in (dict(text_cols='txt'),dict(label_cols='lable'),dict(text_cols=9)):
        with pytest.raises(ValueError, match="the columns are 'label', 'text', 'is_valid'"): TextClasDataBunch.from_csv(csv, 'texts.csv', **kw)
    with pytest.raises(ValueError, match="Did you mean 'label'"): TextClasDataBunch.from_csv(csv, 'texts.csv', label_cols='lable')
    with pytest.raises(ValueError, match="no split column 'valid'"): TextList.from_csv(csv, 'texts.csv', cols='text').split_from_df('valid')

def test_nan_text_and_label():
    df = frame()
    df.loc[7,'text'] = None
    with pytest.raises(ValueError, match=r"NaN values in text column 'text': 1 of 100 rows, the first at index 7.*dropna"): TextClasDataBunch.from_df('.', df, frame())
    with pytest.raises(ValueError, match='text column'): TextLMDataBunch.from_df('.', frame(), df)
    df = frame()
    df.loc[[3,9],'label'] = np.nan
    with pytest.raises(ValueError, match=r"NaN values in label column 'label': 2 of 100 rows"): TextClasDataBunch.from_df('.', df, frame())
    assert len(TextLMDataBunch.from_df('.', df, frame()).train_ds)==100
    il = TextList(['a','b']).split_none()
    for bad in (None, float('nan'), pd.NA):
        with pytest.raises(ValueError, match='labels are missing'): il.label_from_list(['x',bad])
        with pytest.raises(ValueError, match='a text is missing'): TextList(['a',bad]).split_none().label_for_lm()
    data = TextClasDataBunch.from_df('.', frame(), frame())
    with pytest.raises(ValueError, match='missing'): data.encode(float('nan'))
    with pytest.raises(ValueError, match='missing or infinite'): il.label_from_list([.5,np.inf])

def test_words_that_pandas_takes_for_missing(tmp_path):
    frame(20).assign(text=['None','NA','null','n/a']*5).to_csv(tmp_path/'t.csv', index=False)
    data = TextClasDataBunch.from_csv(tmp_path, 't.csv', seed=0, by_text=False)
    assert {data.train_ds.raw_text(i) for i in range(len(data.train_ds))}=={'None','NA','null','n/a'}
    df = frame(20)
    df.loc[4,'text'] = ''
    df.to_csv(tmp_path/'t.csv', index=False)
    with pytest.raises(ValueError, match='first at index 4'): TextList.from_csv(tmp_path, 't.csv', cols='text')
    frame(20).assign(text='None').to_csv(tmp_path/'t.csv', index=False, header=False)
    assert TextClasDataBunch.from_csv(tmp_path, 't.csv', header=None).train_ds.raw_text(0)=='None'

def test_csv_with_a_broken_line(tmp_path):
    f = tmp_path/'t.csv'
    f.write_text('label,text\n1,good\n0,bad, really, bad\n')
    with pytest.raises(ValueError, match=r't\.csv is broken: at line 3: it has 4 fields where 2 are expected'): TextClasDataBunch.from_csv(tmp_path, 't.csv')
    f.write_text('label,text\n1,"good, really"\n0,"bad\n')
    with pytest.raises(ValueError, match='quote that is opened at line 3 is never closed'): TextClasDataBunch.from_csv(tmp_path, 't.csv')
    f.write_text('')
    with pytest.raises(ValueError, match='is empty'): TextClasDataBunch.from_csv(tmp_path, 't.csv')
    f.write_bytes('label,text\n1,café\n'.encode('latin-1'))
    with pytest.raises(ValueError, match='not utf-8 text.*latin-1'): TextClasDataBunch.from_csv(tmp_path, 't.csv', encoding='utf-8')
    with pytest.warns(UserWarning, match='read as cp1252'): assert TextList.from_csv(tmp_path, 't.csv', cols=1).raw[0]=='café'
    with pytest.raises(FileNotFoundError, match=r'CSV files in that folder: t\.csv'): TextClasDataBunch.from_csv(tmp_path, 'text.csv')

def test_unreadable_files(tmp_path):
    for i,b in enumerate((b'good one', b'caf\xe9', b'fine')): (tmp_path/f'{i}.txt').write_bytes(b)
    (tmp_path/'3.txt').symlink_to(tmp_path/'gone.txt')
    (tmp_path/'4.txt').mkdir()
    il = TextList.from_folder(tmp_path)
    assert len(il)==4
    with pytest.raises(ValueError, match=r'1\.txt is not utf-8 text \(byte 0xe9 at position 3'): il.split_by_idx([0]).label_for_lm()
    with pytest.raises(OSError, match=r'cannot read .*3\.txt'): il.take([0,2,3]).split_by_idx([0]).label_for_lm()
    with pytest.warns(UserWarning, match=r'2 of 4 texts cannot be read.*1\.txt.*3\.txt'): ok = il.filter_readable()
    assert len(ok.split_by_idx([0]).label_for_lm().train)==1
    latin = TextList.from_folder(tmp_path, processor=TextProcessor(enc='latin-1', min_freq=1)).take([1,2]).split_by_idx([1]).label_for_lm()
    assert latin.train.text(0)=='xxbos café' and latin.train[0][0].raw=='café'

def test_empty_and_blank_texts():
    df = frame()
    df.loc[[2,5],'text'] = ['','  \t ']
    with pytest.warns(UserWarning, match='empty, the first of them number 2'): data = TextClasDataBunch.from_df('.', df, frame(), bs=200)
    x,y = data.one_batch(DatasetType.Fix)
    assert (x[-1]!=1).sum()==1 and data.one_item('')[0].tolist()==[[2]]
    with pytest.warns(UserWarning, match='empty'): data = TextClasDataBunch.from_df('.', df, frame(), include_bos=False, bs=200)
    assert (data.one_batch(DatasetType.Fix)[0][-1]==1).all() and data.one_item('')[0].tolist()==[[1]]
    with pytest.warns(UserWarning, match='empty'):
        with pytest.raises(ValueError, match='hold no token'): TextLMDataBunch.from_df('.', df[2:3], frame(), include_bos=False)

def test_one_class_only():
    df = frame()[lambda o: o.label=='pos']
    with pytest.warns(UserWarning, match="only one class, 'pos', in 40 training labels"): TextClasDataBunch.from_df('.', df[:40], df[40:])

def test_unseen_label_in_validation():
    va = frame(20)
    va.loc[[1,2],'label'] = ['meh','odd']
    with pytest.warns(UserWarning, match=r"validation labels that are not among the classes: 'meh', 'odd'; 2 of 20 items are left out.*classes="):
        data = TextClasDataBunch.from_df('.', frame(), va)
    assert len(data.valid_ds)==len(data.valid_ds.labels)==18 and data.valid_ds.raw_text(1)==va.text[3] and str(data.valid_ds[1][1])=='pos'
    with pytest.warns(UserWarning, match="2 of 4 classes have no training text, and are never predicted: 'meh', 'odd'"):
        assert len(TextClasDataBunch.from_df('.', frame(), va, classes=['neg','pos','meh','odd']).valid_ds)==20
    with pytest.warns(UserWarning, match="'c'; these labels are left out"):
        ll = TextList(['a','b','c']).split_by_idx([2]).label_from_list(['x;y','y'], ['y;c'], label_delim=';')
    assert ll.valid.labels.tolist()==[[0,1]]
    with pytest.warns(UserWarning, match='test labels'): data.add_test(['a','b'], label=['pos','what'])
    assert len(data.test_ds)==1

def test_wrong_arguments(csv):
    with pytest.raises(TypeError, match="does not know the argument 'bacwards'. Did you mean 'backwards'"): TextClasDataBunch.from_csv(csv, 'texts.csv', bacwards=True)
    TextClasDataBunch.from_csv(csv, 'texts.csv', num_workers=4, no_check=True)
    with pytest.raises(ValueError, match='not 20'): TextClasDataBunch.from_csv(csv, 'texts.csv', valid_pct=20)
    with pytest.raises(ValueError, match='bs must be'): TextClasDataBunch.from_csv(csv, 'texts.csv', bs=0)
    with pytest.raises(TypeError, match='give a column'): TextList(frame())
    with pytest.raises(TypeError, match='put it in a list'): TextList('a text')
    with pytest.raises(ValueError, match='training set is empty'): TextClasDataBunch.from_df('.', frame()[:0], frame())

def test_labels_of_all_types(tmp_path):
    "Classes keep their type through a state, and NumPy's own types become Python's"
    for labels,want in (([3,1]*20,[1,3]),([True,False]*20,[False,True]),(list(np.array([2,1]*20)),[1,2]),(pd.Series(list('ba')*20, dtype='category'),['a','b'])):
        df = pd.DataFrame(dict(label=labels, text='the film'))
        data = TextClasDataBunch.from_df('.', df, df[:4])
        assert data.classes==want and DataBunch.from_state(json.loads(json.dumps(data.export_state()))).classes==want
        assert type(data.classes[0]) is type(want[0])

def test_large_corpus_stays_small():
    "Law 5: ids cost two bytes a token plus eight a document"
    data = TextLMDataBunch.from_ids('.', [f'w{i}' for i in range(100)], as_store([np.arange(50)]*2000), [[1,2]], bs=4)
    assert data.train_ds.store.nbytes==2000*50*2+2001*8

def test_cache_is_used_and_never_stale(csv):
    "Ids are kept in a folder and found again; other settings, or other texts, do not find them"
    mk = lambda **kw: TextClasDataBunch.from_csv(csv, 'texts.csv', seed=0, cache=csv/'cache', **kw)
    kept = lambda: {o:o.stat().st_mtime_ns for o in (csv/'cache').rglob('*.store')}
    a,first = mk(),kept()
    b = mk()
    assert len(first)==2 and kept()==first and a.train_ds.store==b.train_ds.store and a.valid_ds.store==b.valid_ds.store and a.vocab==b.vocab
    assert mk(include_eos=True).train_ds.text(0).endswith('xxeos')
    frame().assign(text='other words').to_csv(csv/'texts.csv', index=False)
    assert mk().train_ds.text(0)=='xxbos other words'

def test_tables_of_other_kinds(tmp_path):
    "The one reader of tables takes the delimiter from the ending, and refuses columns that pandas would shift in silence"
    df = frame(6)
    df.to_csv(tmp_path/'t.tsv.gz', sep='\t', index=False)
    assert read_table(tmp_path/'t.tsv.gz').text.tolist()==df.text.tolist()
    (tmp_path/'t.csv').write_text('label,text\npos,good,x\nneg,bad,y\n')
    with pytest.raises(ValueError, match='at line 2: it has 3 fields where 2 are expected'): read_table(tmp_path/'t.csv')
    pytest.importorskip('pyarrow')
    df.to_parquet(tmp_path/'t.parquet')
    assert read_table(tmp_path/'t.parquet').equals(df)
    (tmp_path/'t.parquet').write_bytes(b'PAR1')
    with pytest.raises(ValueError, match='is not a Parquet file'): read_table(tmp_path/'t.parquet')

def test_text_stands_below_training():
    "Reading texts imports nothing of the parts above; the losses come with training, and one may be set"
    code = ('import sys, textnb.text as t; d = t.TextClasDataBunch.from_ids(".", ["a","b"], [[0],[1]], [[0]], train_lbls=[0,1], valid_lbls=[0]);'
        'print(sorted({m.split(".")[1] for m in sys.modules if m.startswith("textnb.")}), d.loss_func);'
        'import textnb.train; print(type(d.loss_func).__name__); d.loss_func = "mine"; print(d.loss_func)')
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert r.stdout.splitlines()==["['base', 'text'] None", 'CrossEntropyFlat', 'mine'], r.stdout+r.stderr

"Token stores: one result however it is built, found again only when nothing has changed, bad input"
import os,re,signal,subprocess,sys,textwrap,warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given,settings
from hypothesis import strategies as st

from textnb.text import corpus, store as store_module, workers
from textnb.text import (DocumentError, TokenStore, build_store, csv_texts, encode_texts, folder_texts,
    parquet_texts, BaseTokenizer, SubwordTokenizer, Tokenizer, Vocab, join_texts, register_rule)
from textnb.base import defaults

root = Path(__file__).parent.parent
words = 'the a cat dog saw ran Fast SLOW yes no !!!! haaaa\n & it\'s don\'t'.split(' ')
rng = np.random.default_rng(0)
texts = [' '.join(rng.choice(words, n)) for n in rng.integers(0, 30, 400)]

def slow(texts, max_vocab=60000, min_freq=2, tokenizer=None, **marks):
    toks = [(tokenizer or Tokenizer()).process_text(join_texts(t, **marks)) for t in texts]
    v = Vocab.create(toks, max_vocab, min_freq)
    return [v.numericalize(o) for o in toks],v

@register_rule
def fails_on_five(t):
    if 'five' in t: raise KeyError('five')
    return t

@register_rule
def dies_on_six(t):
    if 'six' in t and os.environ.get('TEST_PARENT')!=str(os.getpid()): os._exit(9)
    return t

@pytest.mark.parametrize('n', [0,1,2,4])
def test_same_store_for_any_number_of_workers(n):
    "Check 4: the result, and the order, do not depend on the workers"
    store,vocab = build_store(texts, n_workers=n, chunksize=13)
    ids,want = slow(texts)
    assert vocab==want and [o.tolist() for o in store]==ids

@pytest.mark.parametrize('method', ['spawn','forkserver'])
def test_same_store_however_workers_start(method):
    "Check 4, with processes that are no copy of this one"
    if method not in __import__('multiprocessing').get_all_start_methods(): pytest.skip(f'no {method} here')
    store,vocab = build_store(texts, n_workers=2, chunksize=50, start_method=method)
    assert (store,vocab)==build_store(texts, n_workers=0)

def test_a_script_without_a_guard(tmp_path):
    "Spawned workers do not run the script again, and its rules are applied without them"
    (tmp_path/'s.py').write_text(textwrap.dedent('''
        import multiprocessing as mp, warnings
        mp.set_start_method('spawn')
        from textnb.text import build_store
        from textnb.text import Tokenizer, register_rule
        print('script runs')
        a = build_store(['one two']*300, Tokenizer(), n_workers=2, chunksize=10, start_method='spawn')
        @register_rule
        def mine(t): return t.replace('one', 'three')
        with warnings.catch_warnings(record=True) as ws:
            warnings.simplefilter('always')
            b = build_store(['one two']*300, Tokenizer(pre_rules=[mine]), n_workers=2, chunksize=10, start_method='spawn')
        print(len(a[0]), b[1].textify(b[0][0]), [str(w.message)[:31] for w in ws])
    '''))
    env = {**os.environ, 'PYTHONPATH':str(root), 'TEXTNB_PROGRESS':'0'}
    r = subprocess.run([sys.executable, 's.py'], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert r.stdout=="script runs\n300 xxbos three two ['Worker processes cannot be used']\n", r.stdout+r.stderr

@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=12), st.integers(9, 40), st.integers(1, 3), st.booleans(), st.booleans())
def test_equals_the_slow_way(docs, max_vocab, min_freq, bos, eos):
    store,vocab = build_store(docs, max_vocab=max_vocab, min_freq=min_freq, include_bos=bos, include_eos=eos, n_workers=0)
    ids,want = slow(docs, max_vocab, min_freq, include_bos=bos, include_eos=eos)
    assert vocab==want and [o.tolist() for o in store]==ids

def test_columns_and_marks():
    rows = [('A title','a text'),('Another',2)]
    store,vocab = build_store(rows, min_freq=1, mark_fields=True, include_eos=True)
    assert vocab.textify(store[1])=='xxbos xxfld 1 xxmaj another xxfld 2 2 xxeos'
    assert store==build_store([list(o) for o in rows], min_freq=1, mark_fields=True, include_eos=True)[0]

@pytest.mark.parametrize('n', [0,2])
@pytest.mark.parametrize('bad', [None, float('nan'), pd.NA])
def test_a_missing_text_is_named(bad, n):
    with pytest.raises(DocumentError, match=r'Document 77: A text is missing') as e: build_store([*texts[:77],bad,*texts], n_workers=n, chunksize=10)
    assert e.value.index==77

@pytest.mark.parametrize('n', [0,2])
def test_the_error_of_a_rule_is_named(n):
    with pytest.raises(DocumentError, match="Document 205: KeyError: 'five'"): build_store(['four']*205+['five']*9+['six']*99, Tokenizer(pre_rules=[fails_on_five]), n_workers=n, chunksize=10)

def test_a_worker_that_dies_costs_a_warning(monkeypatch):
    monkeypatch.setenv('TEST_PARENT', str(os.getpid()))
    docs = ['four five']*300+['six seven']+['eight']*200
    tok = Tokenizer(pre_rules=[dies_on_six])
    with pytest.warns(UserWarning, match='going on in one process'): res = build_store(docs, tok, n_workers=2, chunksize=10, min_freq=1)
    assert res==build_store(docs, n_workers=0, min_freq=1, tokenizer=tok)

def test_no_worker_is_left_behind():
    import multiprocessing as mp
    build_store(texts, n_workers=2, chunksize=10)
    with pytest.raises(DocumentError): build_store([*texts,None], n_workers=2, chunksize=10)
    def stops():
        yield from texts
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): build_store(stops(), n_workers=2, chunksize=10)
    assert not mp.active_children()

def test_processes_that_cannot_start(monkeypatch):
    def no(*args): raise OSError(12, 'Cannot allocate memory')
    monkeypatch.setattr(workers._Workers, '_start', no)
    with pytest.warns(UserWarning, match='Cannot allocate memory'): res = build_store(texts, n_workers=2, chunksize=10)
    assert res==build_store(texts, n_workers=0)

def test_the_iterator_is_read_as_needed():
    "No more than a few shares are taken ahead of the work"
    ahead,given = [],[0]
    def docs():
        for i in range(1000):
            given[0] = i
            yield 'a b'
    for w,res in workers.encode_shares(workers.shares_of(docs(), 10), workers.Encoder(Tokenizer(), workers.GrowingNumbers(), (False,True,False)), 2):
        ahead.append(given[0]-10*len(ahead))
    assert len(ahead)==100 and max(ahead)<=60

@pytest.mark.parametrize('texts', ['a text', b'bytes', pd.DataFrame({'text':['a']})])
def test_what_is_no_list_of_texts(texts):
    with pytest.raises(TypeError, match='must come as a list, and'): build_store(texts)

def test_nothing_and_blanks():
    store,vocab = build_store([])
    assert len(store)==0 and store.n_tokens==0 and len(vocab)==16
    store,vocab = build_store(['','  ','\x00'], include_bos=False)
    assert store.lengths.tolist()==[0,0,0]
    assert build_store(['',''])[0].lengths.tolist()==[1,1]

def test_odd_characters():
    store,vocab = build_store(['a\x00b \ud83d','x'*2**20,'\udfff'], min_freq=1, n_workers=2, chunksize=1)
    assert vocab.textify(store[0])=='xxbos a b \ufffd' and vocab.textify(store[1])=='xxbos xxrep 1048576 x'

def test_a_known_vocabulary():
    vocab = Vocab(defaults.text_spec_tok+['cat','dog'])
    for n in (0,2):
        store = encode_texts(['cat bird','dog']*50, Tokenizer(), vocab, n_workers=n, chunksize=7)
        assert store[0].tolist()==[2,9,0] and store[99].tolist()==[2,10] and len(vocab.stoi)==11

def test_a_large_vocabulary_needs_four_bytes():
    docs = [f'w{i}' for i in range(66000)]
    store,vocab = build_store(docs, max_vocab=66000, min_freq=1, n_workers=0)
    assert store.ids.dtype==np.int32 and vocab.textify(store[65990])=='xxbos w65990'

def test_subwords_bring_their_vocabulary():
    pytest.importorskip('sentencepiece')
    docs = [f'{a} {b} walked and talked.' for a in ('the old','a young','my') for b in ('man','woman','farmer')]*4
    tok = Tokenizer(SubwordTokenizer.train(docs, 48))
    store,vocab = build_store(docs, tok, n_workers=2, chunksize=5)
    assert vocab==Vocab.of(tok) and not (store.ids==0).any()

@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60000), max_size=6), min_size=1, max_size=9), st.data())
def test_take(docs, data):
    store = TokenStore(np.array(sum(docs, []), np.uint16), np.cumsum([0]+[len(o) for o in docs]))
    idxs = data.draw(st.lists(st.integers(-len(docs), len(docs)-1), max_size=12))
    assert [o.tolist() for o in store.take(idxs)]==[docs[i] for i in idxs]
    assert store.lengths.tolist()==[len(o) for o in docs] and len(store)==len(docs) and [o.tolist() for o in store]==docs
    with pytest.raises(IndexError): store.take([len(docs)])
    with pytest.raises(IndexError): store[len(docs)]

def test_save_and_open(tmp_path):
    store,_ = build_store(texts)
    store.save(tmp_path/'s')
    for mmap in (True,False):
        back = TokenStore.open(tmp_path/'s', mmap)
        assert back==store and isinstance(back.ids, np.memmap)==mmap
    assert os.listdir(tmp_path)==['s']
    with pytest.raises(FileNotFoundError, match='no token store'): TokenStore.open(tmp_path/'t')

def test_a_damaged_store_is_refused(tmp_path):
    store,_ = build_store(texts)
    for name,cut in (('ids.npy',50),('offsets.npy',200)):
        store.save(tmp_path/name)
        p = tmp_path/name/name
        p.write_bytes(p.read_bytes()[:-cut])
        with pytest.raises(ValueError, match='damaged'): TokenStore.open(tmp_path/name)
    store.save(tmp_path/'old')
    (tmp_path/'old'/'store.json').write_text('{"format": 99}')
    with pytest.raises(ValueError, match='format 99.*build it again'): TokenStore.open(tmp_path/'old')
    with pytest.raises(ValueError, match='do not fit'): TokenStore(store.ids, store.offsets[:-1])

def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    store,_ = build_store(texts)
    store.save(tmp_path/'s')
    def full(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(store_module.np, 'save', full)
    with pytest.raises(OSError, match='No space left'): store.take([0]).save(tmp_path/'s')
    with pytest.raises(OSError, match='No space left'): build_store(texts, cache=tmp_path/'c')
    assert TokenStore.open(tmp_path/'s')==store and sorted(os.listdir(tmp_path))==['c','s'] and os.listdir(tmp_path/'c')==[]

def test_the_cache_is_used(tmp_path, monkeypatch):
    first = build_store(texts, cache=tmp_path)
    def never(*args, **kw): raise AssertionError('built again')
    monkeypatch.setattr(corpus, '_build', never)
    again = build_store(texts, cache=tmp_path, n_workers=2, chunksize=5)
    assert again==first and isinstance(again[0].ids, np.memmap)
    assert build_store(iter(texts), cache=tmp_path)==first
    assert build_store(pd.Series(texts), cache=tmp_path)==first

@register_rule
def changing(t): return t.replace('cat', 'dog')

def test_the_cache_is_never_stale(tmp_path, monkeypatch):
    "Each change is another key: text, order, split, rule, code of a rule, what it refers to, tokenizer, settings, vocabulary, version"
    def key(texts=('ab','c'), **kw):
        before = set(os.listdir(tmp_path))
        build_store(list(texts), cache=tmp_path, **kw)
        return len(set(os.listdir(tmp_path))-before)
    tok = Tokenizer(pre_rules=[changing])
    assert key()==1 and key()==0 and key(n_workers=2, chunksize=1)==0
    for o in (('a','bc'), ('c','ab'), ('ab','c',''), (('ab','c'),), (('ab',),'c')): assert key(o)==1 and key(o)==0
    for kw in (dict(max_vocab=10), dict(min_freq=1), dict(mark_fields=True), dict(include_bos=False), dict(include_eos=True), dict(vocab=Vocab(['xxunk','ab'])),
               dict(tokenizer=Tokenizer(BaseTokenizer)), dict(tokenizer=Tokenizer(post_rules=[])), dict(tokenizer=Tokenizer(special_cases=[])), dict(tokenizer=Tokenizer(lang='de')), dict(tokenizer=tok)):
        assert key(**kw)==1, kw
    assert key(vocab=Vocab(['xxunk','ab']))==key(tokenizer=tok)==0
    exec("def changing(t): return t.replace('cat', 'cow')", ns := {'__name__':'x'})
    assert key(tokenizer=Tokenizer(pre_rules=[ns['changing']]))==1
    ns = {'pat':re.compile('a')}
    exec("def uses(t): return pat.sub('', t)", ns)
    assert key(tokenizer=Tokenizer(pre_rules=[ns['uses']]))==1 and key(tokenizer=Tokenizer(pre_rules=[ns['uses']]))==0
    ns['pat'] = re.compile('b')
    assert key(tokenizer=Tokenizer(pre_rules=[ns['uses']]))==1
    monkeypatch.setattr('textnb.__version__', '99')
    assert key()==1

def test_a_damaged_cache_is_built_again(tmp_path):
    first = build_store(texts, cache=tmp_path)[0].take(range(400))
    for o in tmp_path.glob('*/offsets.npy'): o.write_bytes(b'no array')
    with pytest.warns(UserWarning, match='damaged'): again = build_store(texts, cache=tmp_path)
    assert again[0]==first and len(os.listdir(tmp_path))==1

def test_numbers_beyond_memory(monkeypatch):
    monkeypatch.setattr(corpus._Numbers.__init__, '__defaults__', (1000,1000))
    store,vocab = build_store(texts, n_workers=0, chunksize=10)
    ids,_ = slow(texts)
    assert isinstance(store.ids, np.memmap) and [o.tolist() for o in store]==ids

@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='the memory of a process is read from /proc')
def test_memory_of_many_documents(tmp_path):
    "Check 4: documents streamed from disk take a few bytes a token while they are encoded, the vocabulary and the look-up tables included"
    (tmp_path/'docs.txt').write_text('\n'.join(' '.join(f'w{int(2000*r)}' for r in rng.random(20)) for _ in range(100000)), encoding='utf-8')
    code = textwrap.dedent('''
        from textnb.text import build_store
        def own(key): return next(int(l.split()[1])*1024 for l in open('/proc/self/status') if l.startswith(key))
        build_store(['a b']*10, n_workers=0)
        before = own('VmRSS')
        store, _ = build_store(open('docs.txt', encoding='utf-8'), n_workers=0, pbar=False)
        print((own('VmHWM')-before)/store.n_tokens, store.ids.nbytes/store.n_tokens)
    ''')
    r = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env={**os.environ, 'PYTHONPATH':str(root)}, capture_output=True, text=True, timeout=120)
    growth,size = map(float, r.stdout.split())
    assert size==2 and growth<=12

def test_csv(tmp_path):
    p = tmp_path/'t.csv'
    pd.DataFrame({'label':['a','b','c'], 'text':['one, "two"','NA','three\nlines']}).to_csv(p, index=False)
    src = csv_texts(p, chunksize=2)
    assert list(src)==list(src)==['one, "two"','NA','three\nlines'] and list(csv_texts(p, 1))==list(src)
    assert list(csv_texts(p, ['label','text']))[1]==('b','NA')
    with pytest.raises(ValueError, match="no text column 'body'.*'label', 'text'"): list(csv_texts(p, 'body'))
    p.write_text('label,text\na,one\nb,two\nc,three,four\nd,five\n')
    with pytest.raises(ValueError, match='t.csv is broken: at line 4'): build_store(csv_texts(p))
    assert list(csv_texts(p, on_bad_lines='skip'))==['one','two','five']
    p.write_bytes(b'text\nna\xefve and simple\n')
    with pytest.raises(ValueError, match='not utf-8'): list(csv_texts(p, encoding='utf-8'))
    with pytest.warns(UserWarning, match='read as cp1252'): assert list(csv_texts(p))==['naïve and simple']
    assert list(csv_texts(p, encoding='latin-1'))==['naïve and simple']

def test_folder(tmp_path):
    for n,b in (('b/2.txt',b'two'),('a.txt',b'one'),('c.md',b'no')):
        (tmp_path/n).parent.mkdir(exist_ok=True)
        (tmp_path/n).write_bytes(b)
    assert list(folder_texts(tmp_path))==['one','two'] and len(list(folder_texts(tmp_path, ('.md','.txt'))))==3
    (tmp_path/'bad.txt').write_bytes(b'\xff\xfe\xfd')
    (tmp_path/'lost.txt').symlink_to(tmp_path/'nowhere')
    with pytest.raises(ValueError, match='bad.txt cannot be read.*skip_unreadable'): build_store(folder_texts(tmp_path))
    with pytest.warns(UserWarning, match='is left out') as ws: assert list(folder_texts(tmp_path, skip_unreadable=True))==['one','two']
    assert len(ws)==2
    with pytest.raises(FileNotFoundError, match='no folder'): folder_texts(tmp_path/'x')

def test_parquet(tmp_path):
    pytest.importorskip('pyarrow')
    pd.DataFrame({'text':['one',None], 'n':[1,2]}).to_parquet(tmp_path/'t.parquet')
    assert list(parquet_texts(tmp_path/'t.parquet', 'n'))==[1,2]
    with pytest.raises(DocumentError, match='Document 1: A text is missing'): build_store(parquet_texts(tmp_path/'t.parquet'))
    with pytest.raises(ValueError, match="no text column 'body'"): list(parquet_texts(tmp_path/'t.parquet', 'body'))

def test_nothing_global_is_changed():
    "Law 8"
    filters,main,state,sigint = list(warnings.filters),sys.modules['__main__'],np.random.get_state()[1].copy(),signal.getsignal(signal.SIGINT)
    build_store(texts, n_workers=2, chunksize=50)
    with workers._no_main(): assert sys.modules['__main__'] is not main
    assert warnings.filters==filters and sys.modules['__main__'] is main and (np.random.get_state()[1]==state).all()
    assert signal.getsignal(signal.SIGINT)==sigint

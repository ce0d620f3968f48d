"A store is one file: what changed is seen, what is old can be read, writers and readers side by side, caches that are never used when damaged"
import json, os, signal, subprocess, sys, textwrap, time, warnings
from pathlib import Path

import numpy as np
import pytest

from textnb.base import is_gone
from textnb.text import TokenStore, Tokenizer, Vocab, build_store, corpus, store as store_module

texts = ['the cat saw the dog', '', 'a dog ran', 'the cat ran and ran'*3]*40
posix = pytest.mark.skipif(os.name=='nt', reason='signals of Unix')

def some(n=0, docs=40, seed=0):
    "A store in which every document has the token `n`"
    lengths = np.random.default_rng(seed).integers(1, 30, docs)
    return TokenStore(np.full(lengths.sum(), n, np.uint16), np.concatenate([[0], np.cumsum(lengths)]))

def flipped(data, i, bit): return data[:i]+bytes([data[i]^1<<bit])+data[i+1:]

# ---- the file

@pytest.mark.parametrize('ids', [np.arange(7, dtype=np.uint16), np.arange(-3, 4, dtype=np.int32), np.arange(7, dtype=np.int64), np.arange(14, dtype=np.uint8)[::2], np.empty(0, np.int32)], ids=lambda o: str(o.dtype))
@pytest.mark.parametrize('mmap', [True, False])
def test_any_whole_numbers(tmp_path, ids, mmap):
    store = TokenStore(ids, [0, len(ids)//2, len(ids)])
    store.save(tmp_path/'s')
    back = TokenStore.open(tmp_path/'s', mmap)
    assert back==store and back.ids.dtype==ids.dtype and (isinstance(back.ids, np.memmap)==mmap or not len(ids)) and back.offsets.dtype==np.int64
    assert os.listdir(tmp_path)==['s'] and [o.tolist() for o in back]==[o.tolist() for o in store]

def test_every_bit_counts(tmp_path):
    store,_ = build_store(texts[:4], min_freq=1)
    store.save(tmp_path/'s')
    data = (tmp_path/'s').read_bytes()
    rng = np.random.default_rng(0)
    places = [*range(30), *range(4085, 4110), *range(len(data)-70, len(data)), *rng.integers(0, len(data), 300)]
    for i in places:
        (tmp_path/'s').write_bytes(flipped(data, int(i), int(rng.integers(8))))
        with pytest.raises(ValueError, match='damaged .*build it again'): TokenStore.open(tmp_path/'s')
    for n in [*range(0, 200, 20), *rng.integers(0, len(data), 60)]:
        (tmp_path/'s').write_bytes(data[:n])
        with pytest.raises(ValueError, match='damaged'): TokenStore.open(tmp_path/'s')
    (tmp_path/'s').write_bytes(data+b'\0')
    with pytest.raises(ValueError, match='bytes of'): TokenStore.open(tmp_path/'s')

def test_a_big_store_is_checked_when_asked(tmp_path, monkeypatch):
    "What would take long is left to who asks; offsets and vocabulary are always looked at"
    monkeypatch.setattr(store_module, '_quick', 0)
    store = some(5)
    store.save(tmp_path/'s')
    data = (tmp_path/'s').read_bytes()
    (tmp_path/'s').write_bytes(flipped(data, len(data)-100, 1))
    assert len(TokenStore.open(tmp_path/'s'))==len(store)
    with pytest.raises(ValueError, match='its ids have changed'): TokenStore.open(tmp_path/'s', check=True)
    (tmp_path/'s').write_bytes(flipped(data, 4096+20, 0))
    with pytest.raises(ValueError, match='its offsets have changed'): TokenStore.open(tmp_path/'s')

def test_other_files_are_named_as_what_they_are(tmp_path):
    f = tmp_path/'s'
    for data in (b'', b'PK\x03\x04'*9000, b'\x93NUMPY', b'textnb token store\n', b'textnb token store\n'+b' '*9000, os.urandom(9000)):
        f.write_bytes(data)
        with pytest.raises(ValueError, match='The store in .*s is damaged'): TokenStore.open(f)
    with pytest.raises(FileNotFoundError, match='no token store'): TokenStore.open(tmp_path)
    with pytest.raises(FileNotFoundError, match='no token store'): TokenStore.open(tmp_path/'none')

@pytest.mark.parametrize('new', [dict(format=3), dict(dtype='O'), dict(dtype='<f4'), dict(dtype='x'), dict(dtype=None), dict(ids=None), dict(ids={}), dict(n_docs=1, size='x'),
    dict(offsets=dict(start=0, size=9, crc=0)), dict(ids=dict(start=-1, size=9**9, crc=0)), dict(size=None), dict(ids=dict(start='a', size=1, crc=1)), dict(key=1)], ids=str)
def test_a_header_by_hand(tmp_path, new):
    "Right sums, wrong contents: a ValueError, and nothing bare"
    some(1).save(tmp_path/'s')
    data = (tmp_path/'s').read_bytes()
    head = json.loads(data[:4096][len(store_module._magic):-9])
    (tmp_path/'s').write_bytes(store_module._page_of({**head, **new})+data[4096:])
    with pytest.raises(ValueError, match='The store in .* is damaged'): TokenStore.open(tmp_path/'s', key='')
    missing = {k:v for k,v in head.items() if k not in new}
    (tmp_path/'s').write_bytes(store_module._page_of(missing)+data[4096:])
    if set(new)-{'n_docs'}:
        with pytest.raises(ValueError, match='damaged'): TokenStore.open(tmp_path/'s', key='')

def test_ids_beyond_the_vocabulary(tmp_path):
    words = Vocab(['a', 'b'])
    for ids, doc, wrong in ([0,1,2], 1, 2), (np.array([-1,0,0], np.int32), 0, -1):
        with pytest.raises(ValueError, match=rf'Document {doc} has the token {wrong}, but the vocabulary has 2'): TokenStore(ids, [0,1,3], words).save(tmp_path/'s')
    assert os.listdir(tmp_path)==[]
    store = TokenStore([0,1,1], [0,1,3], words)
    store.save(tmp_path/'s')
    assert TokenStore.open(tmp_path/'s').vocab==words and TokenStore.open(tmp_path/'s').take([1]).vocab==words
    store,vocab = build_store(texts)
    assert store.vocab is vocab

def test_stores_that_are_no_stores():
    for ids in ([.5], np.ones((2,2), int), np.array(['a']), [None]):
        with pytest.raises(ValueError, match='whole numbers in one row'): TokenStore(ids, [0, len(ids)])

# ---- older stores

def old_store(folder, store, **more):
    folder.mkdir()
    np.save(folder/'ids.npy', store.ids)
    np.save(folder/'offsets.npy', store.offsets)
    (folder/'store.json').write_text(json.dumps(dict(format=1, n_docs=len(store), n_tokens=store.n_tokens, **more)))

@pytest.mark.parametrize('mmap', [True, False])
def test_a_store_of_format_1(tmp_path, mmap):
    store = some(3)
    old_store(tmp_path/'s', store)
    back = TokenStore.open(tmp_path/'s', mmap)
    assert back==store and isinstance(back.ids, np.memmap)==mmap and back.vocab is None
    old_store(tmp_path/'e', some(0, 0))
    assert len(TokenStore.open(tmp_path/'e', mmap))==0
    some(4).save(tmp_path/'s')
    assert os.listdir(tmp_path/'s')==['tokens.store'] and TokenStore.open(tmp_path/'s')==some(4)

def test_a_damaged_store_of_format_1(tmp_path):
    s = tmp_path/'s'
    old_store(s, some(3))
    whole = {f.name:f.read_bytes() for f in s.iterdir()}
    bad = [('ids.npy', whole['ids.npy'][:-9]), ('ids.npy', b''), ('offsets.npy', whole['offsets.npy'][:-9]), ('offsets.npy', b'x'), ('store.json', b'{"format": 99}'), ('store.json', b'[]'),
        ('store.json', b'{"format": 1}'), ('store.json', b'{"form'), ('store.json', b'{"format": 1, "n_docs": 2, "n_tokens": 3}')]
    for name, data in bad:
        (s/name).write_bytes(data)
        with pytest.raises(ValueError): TokenStore.open(s)
        (s/name).write_bytes(whole[name])
    for name in ('ids.npy', 'offsets.npy'):
        (s/name).unlink()
        with pytest.raises(ValueError, match='damaged'): TokenStore.open(s)
        (s/name).write_bytes(whole[name])
    (s/'store.json').write_text('{"format": 99}')
    with pytest.raises(ValueError, match='format 99.*build it again'): TokenStore.open(s)

def test_saving_does_not_take_a_folder_away(tmp_path):
    (tmp_path/'notes.txt').write_text('mine')
    some(2).save(tmp_path)
    assert sorted(os.listdir(tmp_path))==['notes.txt', 'tokens.store'] and TokenStore.open(tmp_path)==some(2)

# ---- side by side

WRITER = '''
    import sys
    import numpy as np
    from textnb.text import TokenStore
    n = int(sys.argv[2])
    store = TokenStore(np.full(n*500, n, np.uint16), np.arange(n+1)*500)
    print('ready', flush=True)
    for _ in range(int(sys.argv[3])): store.save(sys.argv[1])
'''

def test_a_reader_beside_two_writers(tmp_path):
    "Each store that is read is one of the two, whole"
    TokenStore(np.full(500, 1, np.uint16), [0, 500]).save(tmp_path/'s')
    ps = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(WRITER), str(tmp_path/'s'), str(n), '60'], stdout=subprocess.PIPE, text=True) for n in (2, 3)]
    for p in ps: assert p.stdout.readline()=='ready\n'
    seen = set()
    while any(p.poll() is None for p in ps):
        store = TokenStore.open(tmp_path/'s')
        n = len(store)
        assert store.n_tokens==n*500 and (store.ids==n).all()
        seen.add(n)
    assert [p.returncode for p in ps]==[0, 0] and seen>={2, 3}
    for p in ps: p.stdout.close()
    assert os.listdir(tmp_path)==['s']

def test_what_is_open_stays_what_it_was(tmp_path):
    some(1).save(tmp_path/'s')
    opened = TokenStore.open(tmp_path/'s')
    some(2, 3).save(tmp_path/'s')
    assert opened==some(1) and TokenStore.open(tmp_path/'s')==some(2, 3)

# ---- caches

BUILD = '''
    import sys, warnings
    warnings.simplefilter('error')
    from textnb.text import build_store
    texts = [f'text {i%7} of {i}' for i in range(400)]
    sys.stdin.readline()
    store, vocab = build_store(texts, cache=sys.argv[1], n_workers=int(sys.argv[2]), chunksize=50, pbar=False, min_freq=1)
    print(len(store), store.n_tokens, vocab.textify(store[399]))
'''

def test_processes_build_one_store(tmp_path):
    ps = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(BUILD), str(tmp_path/'c'), '2'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    told = [p.communicate('\n', timeout=120) for p in ps]
    assert {o for o,_ in told}=={'400 2000 xxbos text 0 of 399\n'}, told
    assert [p.returncode for p in ps]==[0]*4 and len(os.listdir(tmp_path/'c'))==1

def damages(data, rng):
    "Ways to spoil the bytes of a store"
    yield b''
    yield b'\0'*len(data)
    yield data[:4096]
    yield data+data
    yield b'PK'+data[2:]
    yield data.replace(b'token store', b'token st0re')
    for _ in range(10): yield data[:rng.integers(len(data))]
    for _ in range(30): yield flipped(data, int(rng.integers(len(data))), int(rng.integers(8)))
    for _ in range(10):
        i = int(rng.integers(len(data)-16))
        yield data[:i]+rng.bytes(16)+data[i+16:]

def test_no_damaged_cache_is_used(tmp_path):
    "Each kind of damage is said, the store is built again, and the run after that has nothing to say"
    first,vocab = build_store(texts)
    build_store(texts, cache=tmp_path)
    file, = tmp_path.iterdir()
    data = file.read_bytes()
    for bad in damages(data, np.random.default_rng(0)):
        file.write_bytes(bad)
        with pytest.warns(UserWarning, match='damaged.*this is done now') as w: again,words = build_store(texts, cache=tmp_path)
        assert len(w)==1 and w[0].filename==__file__
        assert again==first and words==vocab and file.read_bytes()==data and os.listdir(tmp_path)==[file.name]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert build_store(texts, cache=tmp_path)==(first, vocab)

def test_a_store_of_other_texts_is_no_cache(tmp_path):
    "A sound store under the wrong name, and one without a vocabulary"
    first,_ = build_store(texts)
    build_store(texts, cache=tmp_path/'a')
    build_store(texts[:20], cache=tmp_path/'b')
    file, = (tmp_path/'a').iterdir()
    other, = (tmp_path/'b').iterdir()
    for bad in (lambda: file.write_bytes(other.read_bytes()), lambda: some(1).save(file), lambda: some(1).save(file, file.stem)):
        bad()
        with pytest.warns(UserWarning, match='made for something else|no vocabulary'): again,_ = build_store(texts, cache=tmp_path/'a')
        assert again==first

def test_a_folder_or_a_link_where_the_store_should_be(tmp_path):
    first,_ = build_store(texts)
    build_store(texts, cache=tmp_path)
    file, = tmp_path.iterdir()
    for fill in (lambda: None, lambda: (file/'x').write_text('x'), lambda: some(3).save(file)):
        file.unlink()
        file.mkdir()
        fill()
        with pytest.warns(UserWarning, match='is a folder, where a store should be'): again,_ = build_store(texts, cache=tmp_path)
        assert again==first and file.is_file()
    file.unlink()
    file.symlink_to(tmp_path/'gone')
    assert build_store(texts, cache=tmp_path)[0]==build_store(texts)[0]

def test_a_cache_that_is_a_file(tmp_path):
    (tmp_path/'c').write_text('')
    with pytest.raises(NotADirectoryError, match='is a file: give a folder'): build_store(texts, cache=tmp_path/'c')

def test_a_found_store_needs_no_right_to_write(tmp_path, monkeypatch):
    first,_ = build_store(texts, cache=tmp_path)
    def never(*_): raise AssertionError('a lock')
    monkeypatch.setattr(corpus, 'locked', never)
    assert build_store(texts, cache=tmp_path)[0]==first

KILLED = '''
    import multiprocessing, os, signal, sys, threading, time
    from textnb.base import process_mark
    from slow_rule import slow
    from textnb.text import Tokenizer, build_store
    def told():
        while len(multiprocessing.active_children())<2: time.sleep(.01)
        print(*(process_mark(p.pid) for p in multiprocessing.active_children()), flush=True)
    if __name__=='__main__':
        threading.Thread(target=told, daemon=True).start()
        build_store(['a text']*4000, Tokenizer(pre_rules=[slow]), cache=sys.argv[1], n_workers=2, chunksize=20, pbar=False, start_method=sys.argv[2])
'''

@posix
@pytest.mark.parametrize('how, sig', [('fork', signal.SIGTERM), ('fork', signal.SIGHUP), ('fork', signal.SIGKILL), ('forkserver', signal.SIGKILL)])
def test_workers_end_with_their_parent(tmp_path, how, sig):
    (tmp_path/'slow_rule.py').write_text('import time\ndef slow(t):\n    time.sleep(.05)\n    return t\n')
    (tmp_path/'k.py').write_text(textwrap.dedent(KILLED))
    with subprocess.Popen([sys.executable, str(tmp_path/'k.py'), str(tmp_path/'c'), how], stdout=subprocess.PIPE, text=True) as p:
        marks = p.stdout.readline().split()
        p.send_signal(sig)
    end = time.monotonic()+20
    while not all(map(is_gone, marks)) and time.monotonic()<end: time.sleep(.05)
    assert len(marks)==2 and all(map(is_gone, marks))
    build_store(texts, Tokenizer(), cache=tmp_path/'c')
    assert [Path(o).suffix for o in os.listdir(tmp_path/'c')]==['.store']

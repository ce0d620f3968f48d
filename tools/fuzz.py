"""Files as nobody wrote them: `python -m tools.fuzz`, or `make fuzz`, changes good files in thousands of ways and reads them.

A reader may load such a file or refuse it by a sentence that names it. Everything else is a finding: another kind of error, a crash, code that
was run, a file written or read elsewhere, gigabytes of memory, half a minute of time, or a loaded thing that cannot be used. The file of each
finding is kept, and target, seed and number say how it was made, so `--only TARGET --seed SEED --first NUMBER --cases 1` makes it again.
"""
import argparse, base64, copy, gzip, hashlib, io, json, os, pickle, random, resource, shutil, signal, struct, sys, tarfile, tempfile, time, traceback
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOM = 3*2**29 # bytes that a case may take beside what was there before
SECONDS = 30 # that a case may take
BATCH = 100 # cases of one child

# ---- good files

def archives(folder):
    "A learner, a language model, two that read sub-words, an ensemble, an encoder, saved weights, a checkpoint and a bunch: name -> file"
    from textnb.all import AWD_LSTM, EnsembleLearner, TextClasDataBunch, Tokenizer, set_seed, text_classifier_learner
    from textnb.text import SubwordTokenizer, Vocab
    from textnb.toys import film_classifier, film_reviews, numbers_lm
    films, numbers = film_classifier(epochs=0), numbers_lm(epochs=0)
    films.fit(1, 1e-2)
    res = dict(learner=films.export(folder/'learner.tnb'), lm=numbers.export(folder/'lm.tnb'))
    numbers.path = folder
    res['encoder'] = numbers.save_encoder('encoder')
    films.path = folder
    res['weights'] = films.save('weights', return_path=True)
    res['ensemble'] = EnsembleLearner([films, films]).export(folder/'ensemble.tnb')
    films.data.path = folder
    films.data.save('bunch.tnb')
    res['bunch'] = folder/'bunch.tnb'
    df = film_reviews()
    for backend in ('sentencepiece','tokenizers'):
        subwords = SubwordTokenizer.train(list(df.text), 72, backend=backend)
        data = TextClasDataBunch.from_df(folder, df[:60], df[60:90], text_cols='text', label_cols='label', bs=8, seed=0,
            tokenizer=Tokenizer(subwords), vocab=Vocab(subwords.itos))
        set_seed(0)
        learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=8, n_hid=8, n_layers=1), pretrained=False, silent=True)
        res[backend] = learn.export(folder/f'{backend}.tnb')
    return res

def checkpoint(folder):
    "A checkpoint of a toy"
    from textnb.train import CheckpointCallback, GradientClipping
    learn = toy(folder)
    learn.fit_one_cycle(2, .02, callbacks=[CheckpointCallback(every=5), GradientClipping(.1)])
    return folder/'models'/'checkpoint.tnb'

def toy(folder, **kwargs):
    "A learner of little numbers"
    from textnb.base import set_seed
    from textnb.toys import ToyLM, toy_stream
    from textnb.train import Learner
    set_seed(0)
    return Learner(toy_stream(folder), ToyLM(0), silent=True, **kwargs)

def foreign(folder):
    "Weights and words as fastai writes them, old and new, arrays of its oldest kind, a tar and a zip file"
    import numpy as np, torch
    from textnb.toys import numbers_lm
    model, res = numbers_lm(epochs=0).model, {}
    for name,new in (('pth',True), ('old_pth',False)):
        res[name] = folder/f'{name}.pth'
        torch.save(dict(model=model.state_dict(), opt=dict(lr=.1, moments=[torch.ones(3)])), res[name], _use_new_zipfile_serialization=new)
    res['words'] = folder/'words.pkl'
    res['words'].write_bytes(pickle.dumps(['xxunk','xxpad','the','film']*9, 2))
    res['old_ids'] = folder/'old_ids.npy'
    np.save(res['old_ids'], np.array([[0,1,2],[3]]*4, dtype=object))
    res['tar'], res['zip'] = folder/'some.tgz', folder/'some.zip'
    with tarfile.open(res['tar'], 'w:gz', format=tarfile.GNU_FORMAT) as t, zipfile.ZipFile(res['zip'], 'w', zipfile.ZIP_DEFLATED) as z:
        for name in ('a/one.txt', 'a/two.txt', 'b/'+'x'*150):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            t.addfile(info, io.BytesIO(name.encode()))
            z.writestr(name, name)
        info = tarfile.TarInfo('a/link')
        info.type, info.linkname = tarfile.LNKTYPE, 'a/one.txt'
        t.addfile(info)
    return res

def plain(folder):
    "A vocabulary, tables, a store, and a journal of the cleaning desk"
    from textnb.panels import Journal
    from textnb.text import TokenStore, Vocab
    import numpy as np
    res = dict(vocab=folder/'vocab.json', csv=folder/'some.csv', tsv=folder/'some.tsv', csv_gz=folder/'some.csv.gz', journal=folder/'some.jsonl')
    Vocab(['xxunk','xxpad','the','film','naïve']).save(res['vocab'])
    rows = ['label,text', *(f'{"pos" if i%2 else "neg"},"a {w}, ""{w}"" naïve film"' for i,w in enumerate(['good','bad','','NA','12']*3))]
    res['csv'].write_text('\n'.join(rows)+'\n', encoding='utf-8')
    res['tsv'].write_text('\n'.join(o.replace(',', '\t', 1) for o in rows)+'\n', encoding='utf-8')
    res['csv_gz'].write_bytes(gzip.compress(res['csv'].read_bytes(), mtime=0))
    TokenStore(np.arange(9, dtype=np.uint16), [0,3,3,9]).save(folder/'store')
    res['store'] = folder/'store'
    Journal(res['journal'], HEAD)
    return res

HEAD = dict(n=9, digest='x', classes=['neg','pos'])

# ---- how each is read: a function of the file, which uses what it has read

def readers(folder):
    "target -> function of a file"
    import textnb.all as t
    from textnb.base import safe_extract
    from textnb.panels import Journal
    from textnb.text import TextLMDataBunch, TokenStore, read_table
    from textnb.toys import film_classifier, numbers_lm
    from textnb.train import Callback, CancelFitException

    class Stop(Callback):
        "Ends a fit at once"
        order = -100
        def before_batch(self): raise CancelFitException

    films, numbers = film_classifier(epochs=0), numbers_lm(epochs=0)
    def predict(f): t.load_learner(f).predict('one lovely long film')
    def write(f):
        learn = t.load_learner(f)
        try: learn.predict('one two', 3)
        except ValueError as e:
            if 'its weights are broken' not in str(e): raise # numbers in a file may be NaN, which a language model says
    def bunch(f):
        data = t.load_data(f.parent, f.name, bs=4)
        data.one_batch()
        data.valid_ds.raw_text(0)
    def old_ids(f):
        words = f.with_name('itos.pkl')
        words.write_bytes(pickle.dumps(['xxunk','xxpad','the','film']))
        for o in ('train','valid'): shutil.copy(f, f.with_name(f'{o}_ids.npy'))
        TextLMDataBunch.load(f.parent.parent, f.parent.name, bs=2)
    def weights(f):
        films.load(f, with_opt=False)
        films.load(f, with_rng=True)
    def either(f):
        numbers.load_encoder(f)
        t.load_torch_file(f)
    def store(f): list(TokenStore.open(f))
    def journal(f): Journal(f, HEAD)
    def extract(f): safe_extract(f, f.parent/'out')
    def resume(f): toy(folder, callbacks=[Stop()]).resume(f)
    archive_readers = dict(learner=predict, lm=write, encoder=numbers.load_encoder, weights=weights, ensemble=predict, bunch=bunch,
        sentencepiece=predict, tokenizers=predict, checkpoint=resume)
    return archive_readers | dict(pth=either, old_pth=either, words=t.load_pickle_list, old_ids=old_ids, tar=extract, zip=extract,
        vocab=lambda f: t.Vocab.load(f).numericalize(['the','film']), csv=read_table, tsv=read_table, csv_gz=read_table, store=store, journal=journal)

# ---- ways to change them

ODD = [None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -2**70, 1e308, float('nan'), .5, '', 'x', 'x'*5000, '../x', '/etc/passwd', 'xxpad', '\0', '\ud800',
    [], {}, [[]], [None], {'path':'/etc/passwd'}, {'tensor':'x'}]
KEYS = ['path','model_dir','pretrained_fnames','pretrained','cache','n_workers','device','callbacks','n_layers','init','attn_cls','__class__','vocab','']

def change_bytes(r, data):
    "Some bytes of `data` changed, cut, put in, repeated or taken out"
    data = bytearray(data)
    for _ in range(r.choice([1,1,1,2,4,9])):
        n, how = len(data), r.randrange(7)
        if not n: break
        i = r.randrange(n)
        j = min(n, i+r.choice([1,2,4,8,64,1000]))
        if how==0: data[i] ^= 1<<r.randrange(8)
        elif how==1: data[i:j] = r.randbytes(j-i)
        elif how==2: del data[i:j]
        elif how==3: data[i:i] = data[i:j]*r.choice([1,2,50])
        elif how==4: data[i:i+4] = struct.pack('<I', r.choice([0, 1, 2**28, 2**31-1, 2**32-1]))
        elif how==5: data[i:i+8] = struct.pack('<Q', r.choice([0, 1, 2**32, 2**40, 2**63, 2**64-1]))
        else: del data[i:]
    return bytes(data)

def place(r, o):
    "A place in a nest of JSON, found by going down from its root"
    at = ()
    while isinstance(o, (dict,list)) and o and r.random()<.85:
        k = r.choice(list(o)) if isinstance(o, dict) else r.randrange(len(o))
        at, o = (*at, k), o[k]
    return at

def put(o, at, change):
    "Change the value at a place of the nest `o`; what it is now"
    if not at: return change(o)
    inner = o
    for k in at[:-1]: inner = inner[k]
    inner[at[-1]] = change(inner[at[-1]])
    return o

def odd_value(r, v):
    "Something in the place of `v`"
    how = r.randrange(8)
    if how==0 and isinstance(v, (int,float)): return v*r.choice([-1, 2, 1000, 10**6, 10**12])
    if how==1 and isinstance(v, list): return v[:len(v)//2] if r.random()<.5 else v*r.choice([2,3])
    if how==2 and isinstance(v, dict) and v: return {k:o for k,o in v.items() if k!=r.choice(list(v))}
    if how==3 and isinstance(v, dict): return {**v, r.choice(KEYS):r.choice(ODD)}
    if how==4: return [v]
    if how==5: return str(v)[:100]
    if how==6 and isinstance(v, dict) and v: return {(r.choice(KEYS) if i==0 else k):o for i,(k,o) in enumerate(v.items())}
    return copy.deepcopy(r.choice(ODD))

def change_json(r, data):
    "Some values of the JSON in `data` changed, or now and then its bytes"
    if r.random()<.1: return r.choice([b'['*100_000, b'{"a":'*5000, b'1'*5000, b'\xff\xfe', b'', b'null', b'[]', change_bytes(r, data)])
    try: o = json.loads(data)
    except (ValueError, RecursionError): return change_bytes(r, data)
    for _ in range(r.choice([1,1,1,2,3])): o = put(o, place(r, o), lambda v: odd_value(r, v))
    return json.dumps(o).encode()

def change_model(r, data):
    "The model of sub-words in the JSON of an archive, changed"
    try:
        o = json.loads(data)
        state = o['data']['processor']['tokenizer']['tok_state']
        base64.b64decode(state['model'])
    except (ValueError, TypeError, KeyError, RecursionError): return change_json(r, data) # it was changed before
    state['model'] = base64.b64encode(change_bytes(r, base64.b64decode(state['model']))).decode()
    return json.dumps(o).encode()

def change_tensors(r, data):
    "The header of safetensors changed, with its length put right"
    n = int.from_bytes(data[:8], 'little')
    head = change_json(r, data[8:8+n])
    return len(head).to_bytes(8, 'little')+head+data[8+n:]

def change_zip(r, data):
    "Members of the zip file `data` changed, taken out, renamed or put in; sums are put right"
    with zipfile.ZipFile(io.BytesIO(data)) as z: members = {o.filename:z.read(o) for o in z.infolist()}
    for _ in range(r.choice([1,1,2])):
        name = r.choice([*members, *['meta.json']*len(members)]) if 'meta.json' in members else r.choice(list(members))
        if name not in members: continue
        how = r.randrange(12)
        if how==0: del members[name]
        elif how==1: members[r.choice(['', '../x', '/tmp/evil', name+'/x', 'evil.py', 'files/'])] = members[name]
        elif name=='meta.json' and b'tok_state": {' in members[name] and how<5: members[name] = change_model(r, members[name])
        elif name.endswith('.json'): members[name] = change_json(r, members[name])
        elif name.endswith('.safetensors') and how<8: members[name] = change_tensors(r, members[name])
        else: members[name] = change_bytes(r, members[name])
        if not members: break
    if 'manifest.json' in members and r.random()<.95: members['manifest.json'] = new_manifest(members)
    b = io.BytesIO()
    with zipfile.ZipFile(b, 'w', r.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as z:
        for k,v in members.items(): z.writestr(zipfile.ZipInfo(k), v, z.compression)
    return b.getvalue()

def new_manifest(members):
    "The manifest with the sums of these members; as it is if it is no manifest any more"
    try:
        man = json.loads(members['manifest.json'])
        sums = {k:dict(size=len(v), sha256=hashlib.sha256(v).hexdigest()) for k,v in members.items() if k!='manifest.json'}
        return json.dumps({**man, 'members':sums}).encode()
    except (ValueError, TypeError, RecursionError): return members['manifest.json']

def change_table(r, data):
    "A table with what stands in tables of others"
    odd = [b'"', b'""', b',', b'\t', b';', b'\r', b'\r\n', b'\n\n', b'\0', b'\xef\xbb\xbf', b'\xff\xfe', b'\xe9', b'"'+b'x'*70_000, b'a,b,c,d\n', b'\x1a', b'\\']
    data = bytearray(data)
    for _ in range(r.choice([1,2,5])):
        i = r.choice([0, r.randrange(len(data)+1), len(data)])
        data[i:i] = r.choice(odd)
    return bytes(data) if r.random()<.7 else change_bytes(r, data)

def change(r, target, data, others):
    "The file `data` of a target, changed in one way or another"
    if r.random()<.03: return data[:r.randrange(len(data)+1)]+r.choice(others)[r.randrange(100):]
    if data[:2]==b'PK' and r.random()<.8: return change_zip(r, data)
    if target in ('vocab','store'): return change_json(r, data) if data[:1] in b'{[' else change_bytes(r, data)
    if data[:2]==b'\x1f\x8b' and r.random()<.8: return gzip.compress((change_table if target=='csv_gz' else change_bytes)(r, gzip.decompress(data)), mtime=0)
    if target in ('csv','tsv'): return change_table(r, data)
    if target=='journal' and r.random()<.7: return b'\n'.join(change_json(r, o) if o and r.random()<.5 else o for o in data.split(b'\n'))
    return change_bytes(r, data)

def odd_text(r):
    "A text that nobody would write"
    parts = ['a', 'Z', ' ', '\n', '\t', '\0', '\ud800', '\u202e', '\u200d', '́', '👩‍👩‍👧', '漢字', 'ไทย', 'xxbos', 'xxrep', '<br />', '&#39;', "n't", '...', '1e9', '(', '"', '\x1b[31m', 'ﬁ', '\ufeff']
    return ''.join(r.choice(parts)*r.choice([1,1,1,2,30]) if r.random()<.8 else chr(r.randrange(0x110000)) for _ in range(r.choice([0,1,3,20,200])))

# ---- a case

class Finding(Exception): "Something that should not have happened"

def make_case(target, seed, k, good, folder):
    "Write the changed file of case `k`; its path"
    r = random.Random(f'{target} {seed} {k}')
    source = good[target]
    others = [o.read_bytes() for name,o in sorted(good.items()) if o.is_file()]
    f = folder/'case'/source.name
    shutil.rmtree(folder/'case', ignore_errors=True)
    f.parent.mkdir()
    if source.is_dir():
        shutil.copytree(source, f)
        one = r.choice(sorted(f.iterdir()))
        one.write_bytes(change(r, target, one.read_bytes(), others))
    else: f.write_bytes(change(r, target, source.read_bytes(), others))
    return f

def chain(e):
    "`e` and the errors behind it"
    while e is not None:
        yield e
        e = e.__cause__ or e.__context__

def judge(e, f):
    "Raise a `Finding` unless `e` is an error that somebody could read and that names the file `f`"
    for o in chain(e):
        if isinstance(o, MemoryError) or 'can\'t allocate' in str(o) or 'not enough memory' in str(o): raise Finding('it wanted too much memory') from e
        if isinstance(o, Finding): raise o
    if not isinstance(e, (ValueError, OSError, ImportError)): raise Finding(f'a bare {type(e).__name__}: {str(e)[:200]}') from e
    if isinstance(e, ImportError): raise Finding(f'it wanted to import something: {e}') from e
    if f is not None and f.name not in str(e) and f.parent.name not in str(e): raise Finding(f'{type(e).__name__} does not name the file: {str(e)[:200]}') from e

WATCHED = {'os.system','subprocess.Popen','os.exec','os.posix_spawn','os.fork','socket.connect','ctypes.dlopen','compile','os.kill'}
CHANGES = {'os.remove','os.rename','os.rmdir','os.mkdir','os.link','os.symlink','os.chmod','os.truncate','shutil.rmtree'}

def watch(folder, flag):
    "From now on, while `flag` is set, code that is run, and files that are changed outside `folder` or read where they should not be, are findings"
    def inside(p):
        if not isinstance(p, (str,bytes,os.PathLike)): return True
        p = os.path.realpath(os.fsdecode(p))
        return p.startswith((str(folder), tempfile.gettempdir()+'/tmp'))
    def hook(event, args):
        if not flag: return
        if event in ('os.system','subprocess.Popen','os.exec','os.posix_spawn','socket.connect'): raise Finding(f'code was run or somebody called: {event} {args!r:.100}')
        if event in CHANGES and not inside(args[0]): raise Finding(f'{event} outside: {args!r:.100}')
        if event!='open' or not isinstance(args[0], (str,bytes)): return
        if os.fsdecode(args[0])=='/etc/passwd': raise Finding('/etc/passwd was read')
        writes = isinstance(args[2], int) and args[2]&(os.O_WRONLY|os.O_RDWR|os.O_CREAT)
        if writes and not inside(args[0]): raise Finding(f'written outside: {args[0]!r:.100}')
    sys.addaudithook(hook)

def too_slow(*_): raise Finding(f'it took more than {SECONDS} seconds')

def run_case(read, f):
    "Read one file; 'loaded' or 'refused', or a `Finding`"
    signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try: read(f)
    except Exception as e: return judge(e, f) or 'refused'
    finally: signal.setitimer(signal.ITIMER_REAL, 0)
    return 'loaded'

def texts(read, seed, k):
    "Tokenize an odd text"
    r = random.Random(f'texts {seed} {k}')
    t = odd_text(r)
    if read(t)!=read(t): raise Finding('two times gave two results')
    return 'loaded'

# ---- many cases

def child(target, read, seed, ks, good, folder, pipe):
    "Run the cases `ks` and tell the parent of each"
    import warnings
    warnings.simplefilter('ignore')
    base = int(Path('/proc/self/statm').read_text().split()[0])*os.sysconf('SC_PAGE_SIZE')
    resource.setrlimit(resource.RLIMIT_AS, (base+ROOM, base+ROOM))
    flag = []
    watch(folder, flag)
    for k in ks:
        pipe.write(f'{k} begins\n')
        pipe.flush()
        try:
            if target=='texts': told = texts(read, seed, k)
            else:
                f = make_case(target, seed, k, good, folder)
                flag.append(1)
                told = run_case(read, f)
        except BaseException as e:
            where = traceback.extract_tb((e.__cause__ or e).__traceback__)[-1]
            told = f'FOUND {e} ({Path(where.filename).name}:{where.lineno})'.replace('\n', ' ')
        flag.clear()
        pipe.write(f'{k} {told}\n')
        pipe.flush()

def run_batch(target, read, seed, ks, good, folder):
    "Run cases in a child; [(number, what became of it)]"
    a, b = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(a)
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        try:
            with os.fdopen(b, 'w') as pipe: child(target, read, seed, ks, good, folder, pipe)
        finally: os._exit(0)
    os.close(b)
    begun, res = None, []
    with os.fdopen(a) as pipe:
        for line in pipe:
            k, told = line.rstrip('\n').split(' ', 1)
            begun = None if told!='begins' else int(k)
            if told!='begins': res.append((int(k), told))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if begun is not None: res.append((begun, f'FOUND the process died ({code})'))
    return res

def fuzz(seconds=120, seed=0, only=None, first=0, cases=None, out=None, quiet=False):
    "Change and read files until the time is over, or `cases` of each target; {target: {'loaded': n, 'refused': n}} and the findings"
    folder = Path(tempfile.mkdtemp(prefix='tmpfuzz')).resolve()
    seeds = folder/'seeds'
    seeds.mkdir()
    try:
        good = archives(seeds) | foreign(seeds) | plain(seeds) | dict(checkpoint=checkpoint(seeds))
        read = readers(seeds)
        from textnb.text import Tokenizer
        read['texts'] = Tokenizer().process_text
        targets = [o for o in read if only is None or o in only]
        for o in targets: # a good file is read without complaint
            if o!='texts': read[o](good[o])
        counts, found, began = {o:{} for o in targets}, [], time.monotonic()
        k = first
        while time.monotonic()-began<seconds and (cases is None or k<first+cases):
            n = BATCH if cases is None else min(BATCH, first+cases-k)
            for target in targets:
                todo = list(range(k, k+n))
                while todo:
                    done = run_batch(target, read[target], seed, todo, good, folder)
                    for i,told in done:
                        kind = told.split()[0]
                        counts[target][kind] = counts[target].get(kind, 0)+1
                        if kind=='FOUND': found.append(keep(target, seed, i, told[6:], good, folder, out, quiet))
                    todo = todo[len(done):] if done else []
                if time.monotonic()-began>=seconds: break
            k += n
        return counts, found
    finally: shutil.rmtree(folder, ignore_errors=True)

def keep(target, seed, k, told, good, folder, out, quiet):
    "Keep the file of a finding; what is said of it"
    if not quiet: print(f'  {target} {k}: {told}', flush=True)
    if out is not None and target!='texts':
        f = make_case(target, seed, k, good, folder)
        Path(out).mkdir(parents=True, exist_ok=True)
        to = Path(out)/f'{target}-{seed}-{k}-{f.name}'
        (shutil.copytree if f.is_dir() else shutil.copy)(f, to)
    return target, k, told

def main(args=None):
    p = argparse.ArgumentParser(prog='python -m tools.fuzz', description=__doc__.split('\n')[0])
    p.add_argument('--time', type=float, default=180, help='seconds (default: 180)')
    p.add_argument('--seed', type=int, default=None, help='the same seed makes the same files; default: by the clock')
    p.add_argument('--only', nargs='*', help='targets, such as learner bunch pth')
    p.add_argument('--first', type=int, default=0, help='number of the first case')
    p.add_argument('--cases', type=int, help='so many of each target, in place of all that there is time for')
    p.add_argument('--out', default=ROOT/'_fuzz', help='where the files of findings are kept (default: _fuzz)')
    a = p.parse_args(args)
    seed = int(time.time()) if a.seed is None else a.seed
    print(f'== seed {seed}')
    counts, found = fuzz(a.time, seed, a.only, a.first, a.cases, a.out)
    for target,n in counts.items(): print(f'  {target:14} '+', '.join(f'{v:,} {k}' for k,v in sorted(n.items())))
    total = sum(sum(o.values()) for o in counts.values())
    print(f'== {total:,} files, {len(found)} findings'+(f'; their files are in {a.out}, made by --seed {seed}' if found else ''))
    return bool(found)

if __name__=='__main__':
    os.environ.update(OMP_NUM_THREADS='1', TEXTNB_PROGRESS='0', MPLBACKEND='agg')
    sys.path.insert(0, str(ROOT))
    sys.exit(main())

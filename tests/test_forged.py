"Files that somebody has made for you: what they may set, what they may take, and what is said of them"
import base64
import gzip
import hashlib
import io
import json
import math
import os
import pickle
import resource
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from textnb.all import *
from textnb.base import ArchiveError, Entries, get_rng_state, load_archive, load_json, load_npy, safe_extract, save_archive, set_rng_state
from textnb.learn import learner_from_state
from textnb.text import SubwordTokenizer, TextProcessor, Tokenizer
from textnb.toys import ToyLM, film_classifier, film_reviews, numbers_lm, toy_stream
from textnb.train import Callback, CancelFitException, CheckpointCallback, CSVLogger, SaveModelCallback

@pytest.fixture(scope='module')
def films(tmp_path_factory):
    "A classifier with a folder of its own, trained for a moment"
    learn = film_classifier(epochs=0)
    learn.path = learn.data.path = tmp_path_factory.mktemp('films')
    learn.fit(1, 1e-2)
    learn.export('export.tnb')
    learn.data.save('data.tnb')
    learn.save_encoder('enc')
    learn.save('weights')
    return learn

def forge(f, to, meta=None, **files):
    "Write the archive `f` to `to` with another meta (a function of the old one) and other files (bytes), and the right sums"
    a = load_archive(f)
    new = a.meta if meta is None else meta(json.loads(json.dumps(a.meta)))
    save_archive(to, a.tensors, new, a.files | {k.replace('__', '/').replace('_dot_', '.'):v for k,v in files.items()})
    return to

def rezip(f, to, members, packing=zipfile.ZIP_DEFLATED):
    "Write the archive `f` to `to` with these members in the place of its own, and a manifest that agrees"
    with zipfile.ZipFile(f) as z: old = {k:z.read(k) for k in z.namelist()}
    new = {k:v for k,v in {**old, **members}.items() if v is not None}
    man = json.loads(old['manifest.json'])
    man['members'] = {k:dict(size=len(v), sha256=hashlib.sha256(v).hexdigest()) for k,v in new.items() if k!='manifest.json'}
    new['manifest.json'] = members.get('manifest.json', json.dumps(man).encode())
    with zipfile.ZipFile(to, 'w', packing) as z:
        for k,v in new.items(): z.writestr(k, v)
    return to

def at(path, value):
    "A function that puts `value` at `path` ('data.options.bs') of a nest; `...` takes the entry away"
    def change(o):
        inner = o
        *way, last = path.split('.')
        for k in way: inner = inner[int(k)] if isinstance(inner, list) else inner[k]
        if value is ...: del inner[last]
        else: inner[last] = value
        return o
    return change

def peak(f, *args):
    "The error of `f(*args)` in a child that may take 1 GiB more than it has, and how many MiB it took"
    a, b = os.pipe()
    pid = os.fork()
    if not pid:
        here = int(Path('/proc/self/statm').read_text().split()[0])*os.sysconf('SC_PAGE_SIZE')
        resource.setrlimit(resource.RLIMIT_AS, (here+2**30, here+2**30))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try: told = repr(f(*args))[:50]
        except BaseException as e: told = f'{type(e).__name__}: {e}'
        took = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-before)//1024
        os.write(b, json.dumps([told[:2000], took]).encode())
        os._exit(0)
    os.close(b)
    with os.fdopen(a) as pipe: res = json.loads(pipe.read() or '["died", 0]')
    os.waitpid(pid, 0)
    return res

def is_refused(f, *args, match='', most=300):
    "Reading takes no memory to speak of, and ends in an ArchiveError that holds `match`"
    told, took = peak(f, *args)
    assert told.startswith('ArchiveError: ') and 'MemoryError' not in told and match in told, told
    assert took<most, (told, took)
    return told

# ---- what a file may set

SPEC = ['path', 'model_dir', 'pretrained_fnames', 'pretrained', 'callbacks', 'callback_fns', 'metrics', 'loss_func', 'opt_func', 'silent', 'wd', 'data', 'arch']

@pytest.mark.parametrize('name', SPEC)
def test_arguments_of_a_recipe(films, tmp_path, name):
    "An argument that no recipe has is refused by file, member and entry, and nothing is read or written"
    f = forge(films.path/'export.tnb', tmp_path/'x.tnb', at(f'spec.args.{name}', str(tmp_path/'evil')))
    with pytest.raises(ArchiveError, match=rf'x\.tnb: meta\.json: the entry spec\.args\.{name} is none that a file may set'): load_learner(f)
    assert [o.name for o in tmp_path.iterdir()]==['x.tnb']

@pytest.mark.parametrize('path, value, told', [
    ('spec.args.bptt', 0, 'must be a whole number'), ('spec.args.bptt', '70', "not str '70'"), ('spec.args.bptt', True, 'not bool True'),
    ('spec.args.max_len', -1, 'must be a whole number'), ('spec.args.drop_mult', float('nan'), 'must be a number'),
    ('spec.args.ps', 'all', 'null, or numbers from 0 to 1'), ('spec.args.ps', [2], 'null, or numbers from 0 to 1'),
    ('spec.args.lin_ftrs', [2**40], 'sizes of layers'), ('spec.args.config', 7, 'an object with named entries'),
    ('spec.args.config.n_layers', 10**6, 'must be like'), ('spec.args.config.emb_sz', 10**9, 'must be like'), ('spec.args.config.n_hid', 'x', 'must be like'),
    ('spec.args.config.n_hid', 60_000, 'describes a model of'), ('spec.args.config.qrnn', 'x', 'must be like'), ('spec.args.config.hidden_p', [1], 'must be like'),
    ('spec.args.config.hidden_p', 700, 'must be at least 0'), ('spec.args.config.colour', 1, 'no configuration entry'), ('spec.arch', 'os.system', 'not a registered architecture'),
    ('spec.arch', None, 'must be a text'), ('spec.task', 'x', 'must be one of lm, classifier'), ('spec.task', 'lm', ''), ('spec', [], 'must be an object'), ('spec', ..., 'is missing'),
    ('data', None, 'must be an object'), ('data.format', 2, 'data of format 2'), ('data.vocab', [1], r'\[0\] is int 1'), ('data.vocab', ['a']*10**5, 'describes a model'),
    ('data.vocab', 'abc', 'a list of texts'), ('data.classes', [[]], 'a list of texts or numbers'), ('data.classes', None, 'no classes'), ('data.is_lm', 'x', 'true or false'),
    ('data.bs', 0, 'whole number'), ('data.sep', 7, 'a text'), ('data.options.pad_idx', 10**6, 'from 0 to'), ('data.options.val_bs', -1, 'whole number'),
    ('data.options.seed', 'x', 'whole number'), ('data.options.sampler', 'x', 'none that a file may set'), ('data.options.device', 'cuda', 'none that a file may set'),
    ('data.processor.cache', '/tmp/evil', 'none that a file may set'), ('data.processor.n_workers', 10**6, 'none that a file may set'),
    ('data.processor.train_tokenizer', 'x', 'none that a file may set'), ('data.processor.enc', 'rot13', 'an encoding of texts'), ('data.processor.min_freq', -1, 'whole number'),
    ('data.processor.tokenizer', 3, 'an object'), ('data.processor.tokenizer.lang', '../../x', 'the name of a language'), ('data.processor.tokenizer.tok_func', 'eval', 'is not known here'),
    ('data.processor.tokenizer.pre_rules', ['exec'], 'is not known here'), ('data.processor.tokenizer.special_cases', [1], r'\[0\] is int 1'),
    ('data.processor.tokenizer.tok_state', {'x':1}, 'no state'), ('data.labels.kind', 'x', 'must be one of'), ('data.labels.dtype', 'object', 'must be one of'),
    ('data.labels.shape', [2**40], 'must be'), ('data.labels', None, 'an object')])
def test_entries_of_a_learner(films, tmp_path, path, value, told):
    "Each entry has its type and bounds, and the message names the file"
    f = forge(films.path/'export.tnb', tmp_path/'x.tnb', at(path, value))
    with pytest.raises(ValueError, match=rf'(?s)x\.tnb.*{told}'): load_learner(f)

def test_a_learner_that_was_not_forged(films, tmp_path):
    "The way there and back leaves the numbers as they are, so that the tests above refuse what they should"
    f = forge(films.path/'export.tnb', tmp_path/'x.tnb')
    assert torch.equal(load_learner(f).predict('one lovely long film')[2], films.predict('one lovely long film')[2])

@pytest.mark.parametrize('meta', [{}, [], None, 3, {'spec':{}, 'data':{}}, {'spec':None, 'data':[]}])
def test_learner_from_state(meta):
    with pytest.raises(ArchiveError, match='some.tnb'): learner_from_state(meta, {}, Path('some.tnb'))

@pytest.mark.parametrize('cls', [DataBunch, TextProcessor, Tokenizer, SubwordTokenizer])
@pytest.mark.parametrize('state', [{}, [], None, 'x', {'format':1}, {'format':{}}, {'tokenizer':[]}, {'backend':'x'}, {'backend':'tokenizers', 'model':'!'}])
def test_from_state(cls, state):
    with pytest.raises(ValueError): cls.from_state(state)

def test_an_ensemble(films, tmp_path):
    f = EnsembleLearner([films, films]).export(tmp_path/'e.tnb')
    load_learner(f)
    for path,value,told in [('weights', 'x', 'a list of numbers'), ('weights', [1], '1 weights for 2'), ('weights', ..., 'is missing'), ('members', {}, 'a list of objects'),
            ('members', [1,2], r'members\[0\] must be an object'), ('members.1.spec.args.path', '/etc', 'none that a file may set'), ('members', [], 'at least one')]:
        g = forge(f, tmp_path/'x.tnb', at(path, value))
        with pytest.raises(ArchiveError, match=rf'x\.tnb: meta\.json: .*{told}'): load_learner(g)

# ---- bunches

def npy(a):
    b = io.BytesIO()
    np.save(b, a, allow_pickle=True)
    return b.getvalue()

def bunch_of(films, tmp_path, meta=None, **files):
    return lambda: load_data(tmp_path, forge(films.path/'data.tnb', tmp_path/'d.tnb', meta, **files).name, bs=4)

def test_no_file_of_yours_is_read(films, tmp_path):
    "`/etc/passwd` as a text is not read; texts within the folder of the data still are"
    n = len(films.data.valid_ds)
    (tmp_path/'texts').mkdir()
    (tmp_path/'texts'/'a.txt').write_text('my own text')
    os.symlink('/etc/passwd', tmp_path/'texts'/'link.txt')
    for bad in ('/etc/passwd', f'{tmp_path}/../../x', str(tmp_path/'texts'/'link.txt'), '../../../../../../../../etc/passwd'):
        raw = json.dumps([{'path':bad}]+['x']*(n-1)).encode()
        with pytest.warns(UserWarning, match='they are not read'): data = bunch_of(films, tmp_path, valid__raw_dot_json=raw)()
        assert data.valid_ds.raw_text(0) is None and data.valid_ds.text(0)==films.data.valid_ds.text(0)
    raw = json.dumps([{'path':str(tmp_path/'texts'/'a.txt')}]*n).encode()
    assert bunch_of(films, tmp_path, valid__raw_dot_json=raw)().valid_ds.raw_text(0)=='my own text'

@pytest.mark.parametrize('name, data, told', [
    ('train__ids_dot_npy', npy(np.array([10**4])), 'has the token 10000, and there are'), ('train__ids_dot_npy', npy(np.array([-1])), 'has the token -1'),
    ('train__ids_dot_npy', npy(np.array([1.])), 'whole numbers'), ('train__ids_dot_npy', npy(np.array([{}])), 'not an array of numbers'), ('train__ids_dot_npy', b'', 'not an array'),
    ('train__offsets_dot_npy', npy(np.array([0,1])), 'offsets do not fit'), ('train__offsets_dot_npy', npy(np.zeros((2,2), int)), 'one row'),
    ('train__labels_dot_npy', npy(np.zeros(1, int)), 'labels of shape'), ('train__labels_dot_npy', npy(np.full(90, 7)), 'not the number of one of 2 classes'),
    ('train__labels_dot_npy', npy(np.full(90, .5)), 'not the number of one of'), ('train__raw_dot_json', b'[1]', 'has to be a list of 90'),
    ('train__raw_dot_json', b'{}', 'has to be a list'), ('train__raw_dot_json', b'['*99999, 'is damaged'), ('train__raw_dot_json', b'\xff', 'is damaged')])
def test_arrays_of_a_bunch(films, tmp_path, name, data, told):
    with pytest.raises(ValueError, match=rf'(?s)d\.tnb.*{told}'): bunch_of(films, tmp_path, **{name:data})()

@pytest.mark.parametrize('path, value', [('state', []), ('state', ...), ('sets', []), ('sets', {}), ('sets.train', 3), ('sets.evil', {}), ('state.labels.kind', 'x'),
    ('state.options', None), ('state.vocab', None), ('state.processor.cache', '/tmp/x')])
def test_entries_of_a_bunch(films, tmp_path, path, value):
    with pytest.raises(ArchiveError, match=r'd\.tnb: meta\.json: '): bunch_of(films, tmp_path, at(path, value))()

# ---- encoders, weights, checkpoints

def test_encoders(films, tmp_path):
    enc = films.path/'models'/'enc.tnb'
    for path,value,told in [('vocab', 3, 'a list of texts'), ('vocab', [1], 'is int 1'), ('backwards', 'x', 'true or false'), ('data', 3, 'an object')]:
        f = forge(enc, tmp_path/'x.tnb', at(path, value))
        with pytest.raises(ValueError, match=f'x.tnb.*{told}'): films.load_encoder(f)
    tensors = load_archive(enc).tensors
    for wrong in (torch.zeros(3), torch.zeros(()), torch.zeros(3, 2, dtype=torch.int64)):
        save_archive(tmp_path/'x.tnb', {**tensors, 'encoder.weight':wrong}, load_archive(enc).meta)
        with pytest.raises(ValueError, match='x.tnb.*one row of numbers a word'): films.load_encoder(tmp_path/'x.tnb')
    lm = numbers_lm(epochs=0)
    full = {f'0.{k}':v for k,v in lm.model[0].state_dict().items()} | {'1.decoder.bias':torch.zeros(2)}
    torch.save(full, tmp_path/'x.pth')
    (tmp_path/'x.pkl').write_bytes(pickle.dumps(list(lm.data.vocab.itos)))
    with pytest.raises(ValueError, match='x.pth: decoder.bias'): lm.load_pretrained(tmp_path/'x.pth', tmp_path/'x.pkl')

@pytest.mark.parametrize('path, value, told', [
    ('opt.kind', 3, 'a text'), ('opt', [], ''), ('opt.scalars', 3, 'an object'), ('opt.scalars', {'step.x':{}}, 'a number or a word'), ('opt.groups', 3, 'a list of objects'),
    ('opt.groups', [{}], 'is missing'), ('opt.groups.0.lr', 'x', 'hyper-parameter lr'), ('opt.groups.0.betas', 'x', 'hyper-parameter betas'), ('names', 3, 'an object'),
    ('names.vocab', 3, 'a list of texts'), ('epochs_done', 'x', 'a whole number'), ('rng', {'python':1}, 'no state of random generators'), ('rng', 3, 'no state of random')])
def test_weights(films, tmp_path, path, value, told):
    "What a file says of the optimizer and the rest is looked at before anything is changed"
    f = forge(films.path/'models'/'weights.tnb', tmp_path/'x.tnb', at(path, value))
    before = {k:v.clone() for k,v in films.model.state_dict().items()}
    if path=='opt': return films.load(f) and None # no state of an optimizer: the weights alone
    with pytest.raises(ValueError, match=rf'x\.tnb.*{told}'): films.load(f, with_opt=path.startswith('opt'), with_rng=True)
    for k,v in films.model.state_dict().items(): assert torch.equal(v, before[k])

def test_moments_that_do_not_fit(films, tmp_path):
    a = load_archive(films.path/'models'/'weights.tnb')
    name = next(k for k in a.tensors if k.startswith('opt.exp_avg.'))
    save_archive(tmp_path/'x.tnb', {**a.tensors, name:torch.zeros(1)}, a.meta)
    with pytest.raises(ArchiveError, match='x.tnb.*exp_avg'): films.load(tmp_path/'x.tnb')

class Stop(Callback):
    "Ends a fit at once"
    order = -100
    def before_batch(self): raise CancelFitException

def learner_of_numbers(path, *callbacks):
    set_seed(0)
    return Learner(toy_stream(path), ToyLM(0), silent=True, callbacks=list(callbacks))

@pytest.mark.parametrize('cb', [CSVLogger('/tmp/evil'), CSVLogger('../../evil'), SaveModelCallback(name='../evil', every='epoch', monitor='train_loss')])
def test_a_checkpoint_makes_no_callback_that_writes_elsewhere(tmp_path, cb):
    learner_of_numbers(tmp_path).fit(2, .01, callbacks=[CheckpointCallback(every=5)])
    def add(meta):
        spec = dict(name=type(cb).__name__, kwargs={'dict':{'dict':{'dict':cb.arguments}}}, state={'dict':{}})
        meta['fit']['dict']['callbacks']['list'].append({'dict':spec})
        return meta
    f = forge(tmp_path/'models'/'checkpoint.tnb', tmp_path/'x.tnb', add)
    with pytest.raises(ValueError, match=r'x\.tnb.*cannot be made'): learner_of_numbers(tmp_path, Stop()).resume(f)

@pytest.mark.parametrize('change, told', [
    (lambda fit: fit['n_epochs'] and fit.update(n_epochs='x'), 'a whole number'), (lambda fit: fit.update(epoch=-1), 'a whole number'), (lambda fit: fit.pop('trained'), 'is missing'),
    (lambda fit: fit.update(callbacks={'list':[3]}), 'must be an object'), (lambda fit: fit.update(state={'tensor':'none'}), 'is not there'), (lambda fit: fit.update(state={'x':1}), 'no saved value'),
    (lambda fit: fit['callbacks']['list'].append({'dict':dict(name='Stop', kwargs={'dict':{}}, state={'dict':{'before_batch':1}})}), 'none that a file may set')])
def test_checkpoints(tmp_path, change, told):
    learner_of_numbers(tmp_path).fit(2, .01, callbacks=[CheckpointCallback(every=5)])
    def meta(o):
        change(o['fit']['dict'])
        return o
    f = forge(tmp_path/'models'/'checkpoint.tnb', tmp_path/'x.tnb', meta)
    with pytest.raises(ArchiveError, match=rf'x\.tnb: meta\.json: .*{told}'): learner_of_numbers(tmp_path, Stop()).resume(f)

@pytest.mark.parametrize('state', [None, [], {}, {'python':[3, [1], None]}, 'x', 7])
def test_rng_state(state):
    before = get_rng_state()
    with pytest.raises(ValueError, match='no state of random generators'): set_rng_state(state)
    with pytest.raises(ValueError, match='no state of random generators'): set_rng_state({**before, 'torch':'AAAA'})
    wrong = {**before['numpy'], 'state':{**before['numpy']['state'], 'pos':10**6}}
    with pytest.raises(ValueError, match='pos is 1000000'): set_rng_state({**before, 'numpy':wrong})
    assert get_rng_state()==before

# ---- what a file may take

def test_a_pickle_of_seven_bytes(tmp_path):
    f = tmp_path/'x.pkl'
    f.write_bytes(b']r'+struct.pack('<I', 2**28)+b'.')
    assert f.stat().st_size==7
    is_refused(load_pickle_list, f, match='x.pkl')
    is_refused(load_torch_file, f, match='x.pkl')
    f.write_bytes(b'\x80\x05\x96'+struct.pack('<Q', 2**40)+b'.')
    is_refused(load_pickle_list, f, match='x.pkl')
    (tmp_path/'itos.pkl').write_bytes(pickle.dumps(['a','b']))
    for name in ('train_ids','valid_ids'): (tmp_path/f'{name}.npy').write_bytes(npy(np.array([[0],[1,1]], dtype=object)))
    head = npy(np.array([[0],[1,1]], dtype=object))
    (tmp_path/'train_ids.npy').write_bytes(head[:128]+b']r'+struct.pack('<I', 2**28)+b'.')
    is_refused(lambda: TextLMDataBunch.load(tmp_path.parent, tmp_path.name), match='train_ids.npy')

def test_an_old_array_of_any_size(tmp_path):
    "The pickle of an array says its size; nothing is made before its values are counted"
    (tmp_path/'itos.pkl').write_bytes(pickle.dumps(['a','b']))
    (tmp_path/'valid_ids.npy').write_bytes(npy(np.array([[0],[1,1]], dtype=object)))
    head = npy(np.array([[0],[1,1]], dtype=object))[:128]
    class Big:
        def __reduce__(self): return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b'b'), (1, (2**33,), np.dtype('O'), False, [1])
    (tmp_path/'train_ids.npy').write_bytes(head+pickle.dumps(Big(), 3))
    is_refused(lambda: TextLMDataBunch.load(tmp_path.parent, tmp_path.name), match='8,589,934,592 values')

@pytest.mark.parametrize('new', [True, False])
def test_tensors_larger_than_their_file(tmp_path, new):
    f = tmp_path/'w.pth'
    def save(d): torch.save(d, f, _use_new_zipfile_serialization=new)
    save({'w':torch.ones(1).expand(2**31)})
    is_refused(load_torch_file, f, match='2,147,483,648 numbers, of which 1 are stored')
    save({'model':{'w':torch.ones(3, 1).expand(3, 9)}})
    is_refused(load_torch_file, f, match='27 numbers, of which 3 are stored')
    save({'w':bytearray(10)})
    is_refused(load_torch_file, f, match='bytearray')
    save({'w':torch.ones(4)})
    data = f.read_bytes()
    if not new: # the old form says how many numbers there are in the pickle alone
        forged = data.replace(b'K\x04N', b'J'+struct.pack('<i', 2**31-1)+b'N')
        assert forged!=data
        f.write_bytes(forged)
        is_refused(load_torch_file, f, match='w.pth')
    both = torch.arange(6.)
    save({'a':both, 'b':both.view(2,3).t(), 'c':both[2:]})
    assert torch.equal(load_torch_file(f)['b'], both.view(2,3).t())

@pytest.mark.parametrize('d', [{'w':3}, {3:torch.ones(1)}, {'model':{'w':'x'}}, [torch.ones(1)], torch.ones(1)])
def test_no_state_dict(tmp_path, d):
    torch.save(d, tmp_path/'w.pth')
    with pytest.raises(ArchiveError, match='w.pth.*state dict'): load_torch_file(tmp_path/'w.pth')

@pytest.mark.parametrize('member', ['meta.json', 'weights.safetensors'])
def test_archives_that_unpack_to_gigabytes(films, tmp_path, member):
    f = tmp_path/'x.tnb'
    with zipfile.ZipFile(films.path/'export.tnb') as old, zipfile.ZipFile(f, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for k in old.namelist():
            if k!=member: z.writestr(k, old.read(k))
        with z.open(member, 'w', force_zip64=True) as o:
            for _ in range(1024): o.write(b' '*2**20)
    assert f.stat().st_size<2**24
    is_refused(load_archive, f, match='would unpack to 1,07')

@pytest.mark.parametrize('data', [b'['+b'[],'*2**23+b'1]', b'['+b'{},'*2**23+b'1]', b'['+b'1,'*2**25+b'1]'])
def test_json_of_small_things(films, tmp_path, data):
    "JSON of 25 to 64 MB that packs to nothing would become gigabytes of objects"
    f = rezip(films.path/'export.tnb', tmp_path/'x.tnb', {'meta.json':data})
    is_refused(load_archive, f, match='of memory')

@pytest.mark.parametrize('data', [b'['*10**5, b'{"a":'*10**4, b'1'*5000, b'\xff', b'', b'[', b'nul', b'[1]', b'3', b'null', b'"x"'])
@pytest.mark.parametrize('member', ['meta.json', 'manifest.json'])
def test_odd_json_in_archives(films, tmp_path, member, data):
    f = rezip(films.path/'export.tnb', tmp_path/'x.tnb', {member:data})
    for read in (load_archive, load_learner):
        with pytest.raises(ArchiveError, match=rf'x\.tnb.*{member}'): read(f)

@pytest.mark.parametrize('data', [b'['*10**5, b'1'*5000, b'\xff', b''])
def test_odd_json(tmp_path, data):
    (tmp_path/'v.json').write_bytes(data)
    for read in (load_json, Vocab.load):
        with pytest.raises(ValueError, match='v.json'): read(tmp_path/'v.json')

def test_headers_of_safetensors(films, tmp_path):
    with zipfile.ZipFile(films.path/'export.tnb') as z: data = z.read('weights.safetensors')
    n = int.from_bytes(data[:8], 'little')
    head = json.loads(data[8:8+n])
    name = next(k for k in head if k!='__metadata__')
    for shape in ([2**40], [2**62, 4], [-1], [0, 2**62], 'x'):
        new = json.dumps({**head, name:{**head[name], 'shape':shape}}).encode()
        f = rezip(films.path/'export.tnb', tmp_path/'x.tnb', {'weights.safetensors':len(new).to_bytes(8, 'little')+new+data[8+n:]})
        is_refused(load_learner, f, match='x.tnb')
    for length in (2**63, 2**40, 10**8, 0):
        f = rezip(films.path/'export.tnb', tmp_path/'x.tnb', {'weights.safetensors':length.to_bytes(8, 'little')+data[8:]})
        is_refused(load_learner, f, match='weights cannot be read')

@pytest.mark.parametrize('path, value', [('spec.args.config.n_layers', 10**6), ('spec.args.config.n_layers', 2**60), ('spec.args.config.n_hid', 2**16),
    ('spec.args.config.emb_sz', 2**16), ('spec.args.lin_ftrs', [2**20, 2**20]), ('data.labels.shape', [2**40])])
def test_models_larger_than_their_file(films, tmp_path, path, value):
    f = forge(films.path/'export.tnb', tmp_path/'x.tnb', at(path, value))
    is_refused(load_learner, f, match='x.tnb: meta.json: ')

@pytest.mark.parametrize('arch, config, wrong', [
    (Transformer, dict(n_layers=1, n_heads=2, d_model=8, d_head=4, d_inner=8, ctx_len=16), ['n_layers','d_inner','ctx_len','d_head','d_model','n_heads']),
    (TransformerXL, dict(n_layers=1, n_heads=2, d_model=8, d_head=4, d_inner=8, mem_len=4), ['n_layers','d_inner','d_head','d_model','n_heads']),
    (AWD_LSTM, dict(n_layers=1, emb_sz=8, n_hid=8, qrnn=True), ['n_layers','emb_sz'])])
def test_every_architecture_is_counted_first(tmp_path, arch, config, wrong):
    df = film_reviews()
    data = TextLMDataBunch.from_df(tmp_path, df[:60], df[60:], text_cols='text', bs=4, bptt=8)
    f = language_model_learner(data, arch, config=config, pretrained=False, silent=True).export(tmp_path/'good.tnb')
    load_learner(f).predict('a film', 2)
    for name in wrong:
        g = forge(f, tmp_path/'x.tnb', at(f'spec.args.config.{name}', 2**16))
        is_refused(load_learner, g, match='x.tnb: meta.json: ')

def test_arrays_say_their_size(films, tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, dict(shape=(2**40,), fortran_order=False, descr='<i8'))
    is_refused(load_npy, head.getvalue(), 'big.npy', match='big.npy')
    is_refused(bunch_of(films, tmp_path, train__ids_dot_npy=head.getvalue()), match='8,796,093,022,208 bytes')
    for descr in ('|V0', '|S0', '<U0'):
        b = io.BytesIO()
        np.lib.format.write_array_header_1_0(b, dict(shape=(2**40,), fortran_order=False, descr=descr))
        is_refused(load_npy, b.getvalue(), 'x.npy', match='x.npy')

# ---- archives of others

def tar(path, *members, mode='w:gz'):
    "A tar file of (name, contents) or (name, type, name of the link)"
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as t:
        for name,*rest in members:
            m = tarfile.TarInfo(name)
            if len(rest)==2: m.type, m.linkname = rest
            else: m.size = len(rest[0])
            t.addfile(m, io.BytesIO(rest[0]) if len(rest)==1 else None)
    return path

def nothing_in(folder): return not folder.exists() or not list(folder.iterdir())

def test_archives_of_links(tmp_path):
    "40 hard links to 16 MB are 640 MB, from 16 kB"
    f = tar(tmp_path/'a.tgz', ('big', bytes(2**24)), *((f'l{i}', tarfile.LNKTYPE, 'big') for i in range(40)))
    assert f.stat().st_size<2**16
    is_refused(safe_extract, f, tmp_path/'out', match='a.tgz')
    assert nothing_in(tmp_path/'out')
    f = tar(tmp_path/'b.tgz', ('x', b'x'), *((f'l{i}', tarfile.SYMTYPE, 'x') for i in range(1200)))
    with pytest.raises(ArchiveError, match='1,000 copies'): safe_extract(f, tmp_path/'out')
    f = tar(tmp_path/'c.tgz', ('x', b'x'), *((f'l{i}', tarfile.LNKTYPE, 'x') for i in range(9)))
    assert (safe_extract(f, tmp_path/'out')/'l8').read_bytes()==b'x'

def test_tars_of_zeros(tmp_path):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode='w') as t:
        m = tarfile.TarInfo('zeros')
        m.size = 300*2**20
        t.addfile(m, io.BytesIO(bytes(m.size)))
    (tmp_path/'a.tgz').write_bytes(gzip.compress(b.getvalue(), 1))
    del b
    is_refused(safe_extract, tmp_path/'a.tgz', tmp_path/'out', match='314,572,800 bytes')
    assert nothing_in(tmp_path/'out')

def test_zips_of_zeros_and_tars_of_many(tmp_path):
    with zipfile.ZipFile(tmp_path/'a.zip', 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        z.writestr('first', 'x')
        with z.open('zeros', 'w', force_zip64=True) as o:
            for _ in range(300): o.write(bytes(2**20))
    is_refused(safe_extract, tmp_path/'a.zip', tmp_path/'out', match='a.zip')
    (tmp_path/'b.tgz').write_bytes(gzip.compress(tarfile.TarInfo('x').tobuf()*101_000+bytes(1024), 1))
    is_refused(safe_extract, tmp_path/'b.tgz', tmp_path/'out', match='100,000 members')
    assert nothing_in(tmp_path/'out')

@pytest.mark.parametrize('kind', [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_headers_of_tars(tmp_path, kind):
    "A name of 600 MB packs to 600 kB"
    m = tarfile.TarInfo('x')
    m.type = tarfile.GNUTYPE_LONGNAME if kind==tarfile.GNU_FORMAT else tarfile.XHDTYPE
    m.size = 600*2**20
    with gzip.open(tmp_path/'a.tgz', 'wb', compresslevel=1) as f:
        f.write(m.tobuf(tarfile.GNU_FORMAT))
        for _ in range(600): f.write(b'a'*2**20)
        f.write(bytes(1024))
    is_refused(safe_extract, tmp_path/'a.tgz', tmp_path/'out', match='a.tgz')

@pytest.mark.parametrize('members', [['a', 'a/b'], ['a/b', 'a'], ['a/b/c', 'a/b'], ['x/', 'x'], ['x', 'x/'], ['ok', ''], ['ok', '/'], ['ok', '.'], ['ok', 'y'*300],
    ['ok', '..'], ['ok', 'C:x'], ['ok', '\\\\host\\share\\x'], ['ok', './..//../x']])
def test_names_in_archives(tmp_path, members):
    "A file and a folder of one name, a member without a name, names that no file can have: one error, and nothing is written"
    with zipfile.ZipFile(tmp_path/'a.zip', 'w') as z:
        for o in members:
            info = zipfile.ZipInfo('q')
            info.filename = o
            z.writestr(info, b'' if o.endswith('/') else b'data')
    with tarfile.open(tmp_path/'a.tar', 'w', format=tarfile.GNU_FORMAT) as t:
        for o in members:
            m = tarfile.TarInfo(o)
            if o.endswith('/'): m.type = tarfile.DIRTYPE
            t.addfile(m)
    for f in ('a.zip', 'a.tar'):
        out = tmp_path/f'out of {f}'
        with pytest.raises(ArchiveError, match=f): safe_extract(tmp_path/f, out)
        assert nothing_in(out)

def test_a_file_where_there_is_a_folder(tmp_path):
    (tmp_path/'out'/'a').mkdir(parents=True)
    (tmp_path/'out'/'b').write_text('mine')
    for members in ([('a', b'x')], [('b/c', b'x')]):
        with pytest.raises(ArchiveError, match='the same name'): safe_extract(tar(tmp_path/'a.tgz', *members), tmp_path/'out')
    assert (tmp_path/'out'/'b').read_text()=='mine'

def test_damaged_streams(tmp_path):
    "A wrong sum at the end of a gzip stream, a password, an unknown packing"
    f = tar(tmp_path/'a.tgz', ('x', os.urandom(5000)))
    data = bytearray(f.read_bytes())
    data[-6] ^= 1
    f.write_bytes(data)
    with pytest.raises(ArchiveError, match='a.tgz'): safe_extract(f, tmp_path/'out')
    with zipfile.ZipFile(tmp_path/'a.zip', 'w') as z: z.writestr('x', 'data')
    whole = (tmp_path/'a.zip').read_bytes()
    i = whole.index(b'PK\x01\x02')
    for place,value in ((8, 1), (10, 77), (4, 255)):
        data = bytearray(whole)
        data[i+place] = value
        if place==8: data[6] = value
        (tmp_path/'b.zip').write_bytes(data)
        try: assert (safe_extract(tmp_path/'b.zip', tmp_path/'out')/'x').read_text()=='data'
        except ArchiveError as e: assert 'b.zip' in str(e)

# ---- sub-words and words

@pytest.mark.parametrize('backend', ['sentencepiece', 'tokenizers'])
def test_models_of_subwords(tmp_path, backend):
    "A model that its library cannot read is said to be damaged when the file is loaded, and not at the first text"
    pytest.importorskip(backend)
    good = SubwordTokenizer.train(list(film_reviews().text), 72, backend=backend).state()
    assert SubwordTokenizer.from_state(good).state()==good
    model = base64.b64decode(good['model'])
    for bad in (b'', b'x', model[:50], model[:-1]+b'\xff\xff', b'\xff'*99):
        with pytest.raises(ValueError): SubwordTokenizer.from_state({'backend':backend, 'model':base64.b64encode(bad).decode()}).itos
    for wrong in ({}, {**good, 'model':7}, {**good, 'model':'ä'}, {**good, 'backend':[]}, {**good, 'backend':'os'}):
        with pytest.raises(ArchiveError): SubwordTokenizer.from_state(wrong)

def test_pickles_run_nothing(tmp_path):
    "Classes and functions of all kinds, by every instruction that can name one"
    f, canary = tmp_path/'x.pkl', tmp_path/'canary'
    class Evil:
        def __init__(self, *what): self.what = what
        def __reduce__(self): return self.what
    touch = f'open({str(canary)!r}, "w")'
    evil = [pickle.dumps(Evil(o, (touch,)), p) for o in (eval, exec, os.system) for p in range(6)]
    evil += [b"cos\nsystem\n(S'touch "+str(canary).encode()+b"'\ntR.", b"(S'touch "+str(canary).encode()+b"'\nios\nsystem\n.", b'\x80\x02\x82\x01.', b'\x80\x02Q.', b'Pid\n.']
    for data in evil:
        f.write_bytes(data)
        for read in (load_pickle_list, load_torch_file):
            with pytest.raises(ArchiveError, match='x.pkl'): read(f)
    assert not canary.exists()

# ---- the mechanism

def test_entries():
    e = Entries(dict(a=1, b=dict(c=[])), 'x')
    for f,told in [(lambda: e.whole('a', 2, 3), 'x.a must be a whole number from 2 to 3, not int 1'), (lambda: e.inner('b').texts('d'), 'x.b.d is missing'),
            (lambda: e.inner('a'), 'x.a must be an object'), (lambda: e.only(['a']), "x.b is none that a file may set"), (lambda: e.number('a', 2, 3), 'from 2 to 3'),
            (lambda: e.inners('a'), 'x.a must be a list of objects'), (lambda: Entries(3), 'must be an object')]:
        with pytest.raises(ArchiveError, match=told): f()
    assert (e.whole('a', 0, 3), e.inner('b').texts('c'), e.text('z', None), e.flag('a')) == (1, [], None, True)
    assert math.isfinite(e.number('a', 0, 2))

# ---- what the command says of such files

@pytest.mark.parametrize('path, value', [('data', 3), ('spec', 'x'), ('data.vocab', 3), ('vocab', [1])])
def test_info_about_a_forged_file(films, tmp_path, path, value):
    from textnb.command import archive_info
    assert archive_info(films.path/'export.tnb')['vocabulary']==len(films.data.vocab)
    with pytest.raises(ArchiveError, match=r'x\.tnb: meta\.json'): archive_info(forge(films.path/'export.tnb', tmp_path/'x.tnb', at(path, value)))

@pytest.mark.parametrize('path, value', [('spec', None), ('spec.args', []), ('spec.args.config', 'x'), ('spec.args.config.n_hid', 10**9), ('vocab', 'x')])
def test_training_on_a_forged_encoder(films, tmp_path, path, value):
    from textnb.command import read_encoder
    enc = films.path/'models'/'enc.tnb'
    assert read_encoder(enc)[1:]==('AWD_LSTM', dict(emb_sz=24, n_hid=32, n_layers=2))
    with pytest.raises(ArchiveError, match=r'x\.tnb: meta\.json'): read_encoder(forge(enc, tmp_path/'x.tnb', at(path, value)))

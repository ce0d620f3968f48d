"""Run fastai v1's own text tests against textnb: `python tools/run_fastai_tests.py FOLDER [--slow] [pytest's options]`

FOLDER is a checkout of https://github.com/fastai/fastai1 (or its `tests` folder). Its `tests/test_text_*.py` are copied to a
temporary folder and run there; for them the packages `fastai.*` are stand-ins whose names come from `textnb.all`. Nothing of
fastai is imported, and nothing is downloaded.

What the tests found in their surroundings in 2019 is put back around them, and touches no line of textnb: modules that came with
fastai's star import, `DataFrame.append`, arrays of lists of unequal length, and the two data sets (numbers in words, made by
`human_numbers`; a folder for IMDB_SAMPLE, of which the tests use only the path).
"""
import argparse
import importlib
import shutil
import sys
import tempfile
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

def ragged(numpy):
    "A copy of the module `numpy` whose `asarray` makes arrays of objects of lists of unequal length, as it did before 1.24"
    res = types.ModuleType('numpy')
    res.__dict__.update(vars(numpy))
    def asarray(a, *args, **kwargs):
        try: return numpy.asarray(a, *args, **kwargs)
        except ValueError: return numpy.asarray(a, dtype=object)
    res.asarray = asarray
    return res

def append(df, other):
    "`df.append(other)`, which pandas 2 has not"
    import pandas as pd
    return pd.concat([df, other])

def data_folder(url, home):
    "The folder of the data set at `url` under `home`, made here"
    from textnb.all import human_numbers
    folder = home/('human_numbers' if 'human_numbers' in str(url) else 'imdb_sample')
    folder.mkdir(exist_ok=True)
    if folder.name=='human_numbers':
        df = human_numbers()
        for name,rows in (('train', df[~df.is_valid]), ('valid', df[df.is_valid])):
            (folder/f'{name}.txt').write_text(''.join(f'{text}\n' for text in rows.text), encoding='utf-8')
    return folder

def loader_class():
    "PyTorch's `DataLoader` as fastai left it: what it has not, its data set has; of the events of version 1 ours need none"
    from torch.utils.data import DataLoader
    class Passing(DataLoader):
        def on_epoch_begin(self): pass
        def on_epoch_end(self): pass
        def __getattr__(self, name): return getattr(self.__dict__['dataset'], name)
    return Passing

def quiet_os():
    "A copy of the module `os` whose `remove` takes `data_save.pkl` for the file that `DataBunch.save` writes here"
    import os
    res = types.ModuleType('os')
    res.__dict__.update(vars(os))
    res.remove = lambda path: os.remove(str(path).replace('data_save.pkl', 'data_save.tnb'))
    return res

def text_names(home):
    "What `from fastai.text import *` brings"
    import textnb.all
    from torch import optim
    res = {name: getattr(textnb.all, name) for name in textnb.all.__all__}
    res.update({name: importlib.import_module(name) for name in 'gc math shutil warnings'.split()})
    res.update(np=ragged(res['np']), os=quiet_os(), optim=optim, DataLoader=loader_class(), untar_data=lambda url: data_folder(url, home))
    res['last_layer'] = lambda model: [m for m in model.modules() if not list(m.children())][-1]
    return res

def qrnn_names():
    "What `fastai.text.models.qrnn` has; of its two kernels, which only tests with a GPU ask for, no more than the names"
    import textnb.models as models
    import torch
    def forget_mult_CPU(x, f, hidden_init=None, batch_first=True, backward=False):
        dims = [1] if backward else []
        def turned(t): return (t if batch_first else t.transpose(0, 1)).flip(dims)
        res = models.forget_mult(turned(x), turned(f), hidden_init).flip(dims)
        return res if batch_first else res.transpose(0, 1)
    class QRNNLayer(models.QRNNLayer):
        "Keeps the last input of the text, and gives and takes the memory alone, where ours gives and takes both"
        last = None
        def forward(self, x, c=None):
            out,(c,*last) = super().forward(x, None if c is None else (c,*self.last))
            self.last = last
            return out,c
    class QRNN(models.QRNN):
        "Gives the memories of all layers as one tensor"
        def forward(self, x):
            out,state = super().forward(x)
            return out,torch.cat(state)
    return dict(QRNN=QRNN, QRNNLayer=QRNNLayer, forget_mult_CPU=forget_mult_CPU, ForgetMultGPU=None, BwdForgetMultGPU=None)

def stand_in(name, **names):
    "The module `name`, and its place in the package above"
    res = types.ModuleType(name)
    res.__dict__.update(names, __path__=[])
    sys.modules[name] = res
    above,_,own = name.rpartition('.')
    if above: setattr(sys.modules[above], own, res)

def stand_ins(home):
    "The packages that the tests import"
    import pandas as pd
    import textnb.all
    pd.DataFrame.append = append
    textnb.all.TextList.label_from_folder = textnb.all.ItemLists.label_from_folder # two tests name it as what they are about
    names = text_names(home)
    stand_in('fastai')
    stand_in('fastai.basics', have_min_pkg_version=lambda *args: True)
    stand_in('fastai.gen_doc')
    stand_in('fastai.gen_doc.doctest', this_tests=lambda *args: None)
    stand_in('fastai.text', **names)
    stand_in('fastai.text.models')
    stand_in('fastai.text.models.qrnn', **qrnn_names())

class Marks:
    "fastai's own marks: what needs a GPU is skipped, and what is slow unless it is asked for"
    def __init__(self, slow): self.slow = slow

    def pytest_configure(self, config):
        for mark in ('integration', 'slow', 'cuda', 'cpp'): config.addinivalue_line('markers', f'{mark}: of fastai')

    def pytest_collection_modifyitems(self, items):
        import pytest
        for item in items:
            if item.get_closest_marker('cuda'): item.add_marker(pytest.mark.skip(reason='is about kernels of fastai'))
            if item.get_closest_marker('slow') and not self.slow: item.add_marker(pytest.mark.skip(reason='--slow runs it'))

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('folder', type=Path, help='a checkout of fastai1, or its tests folder')
    parser.add_argument('--slow', action='store_true', help='the tests marked slow, too')
    args,rest = parser.parse_known_args()
    tests = sorted(args.folder.glob('tests/test_text_*.py')) or sorted(args.folder.glob('test_text_*.py'))
    if not tests: sys.exit(f'{args.folder} holds no tests/test_text_*.py: give a checkout of https://github.com/fastai/fastai1')
    import pytest
    with tempfile.TemporaryDirectory() as home:
        home = Path(home).resolve()
        stand_ins(home)
        for f in tests: shutil.copy(f, home)
        options = ['-c', str(home/'pytest.ini'), '--rootdir', str(home), '--noconftest', '-p', 'no:cacheprovider', '-rA', '--tb=short']
        (home/'pytest.ini').write_text('[pytest]\n')
        return pytest.main([*options, str(home), *rest], plugins=[Marks(args.slow)])

if __name__=='__main__': sys.exit(main())

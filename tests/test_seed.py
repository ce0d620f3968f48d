"The page that defines textnb's surface: its code cells run in order, with only the import changed"
import json, os, subprocess, sys
from pathlib import Path

import numpy as np, pandas as pd, pytest

cells = Path(__file__).with_name('seed_cells.py')

@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A cache that holds a small IMDB sample, so that no network is asked"
    home = tmp_path_factory.mktemp('home')
    r,words = np.random.default_rng(0),'the movie was perhaps a story i have ever seen and it is not good or bad , but <br />new . great awful'.split(' ')
    rows = [dict(label=['negative','positive'][i%2], text=' '.join(r.choice(words, r.integers(5, 40))), is_valid=i>=40) for i in range(50)]
    folder = home/'data'/'imdb_sample'
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder/'texts.csv', index=False)
    return home

def run(code, home, cwd):
    env = {k:v for k,v in os.environ.items() if k!='TEXTNB_HOME'} | dict(TEXTNB_HOME=str(home), MPLBACKEND='Agg', TEXTNB_PROGRESS='0')
    return subprocess.run([sys.executable, *code], capture_output=True, text=True, cwd=cwd, env=env)

def test_script(home, tmp_path):
    "Law 2 and section 1.16: the whole page, as a script"
    out = run([str(cells)], home, tmp_path)
    assert out.returncode==0, out.stderr[-3000:]
    for word in ('intrinsic attention for', 'zombiegeddon', 'Prediction', 'Probability'): assert word in out.stdout, word

def test_values(home, tmp_path):
    "What the cells leave behind is what v1's reader would expect"
    code = cells.read_text() + '''
import json
attn = txt_ci.intrinsic_attention(test_text)[1]
print(json.dumps(dict(n=len(attn), toks=len(data.tokens(test_text)), top=float(attn.max()), low=float(attn.min()), classes=list(data.classes), valid=len(data.valid_ds),
    emb=learn.model[0].module.emb_sz, hid=learn.model[0].module.n_hid, head=[m.out_features for m in learn.model[1].modules() if isinstance(m, nn.Linear)],
    doc=str(show_doc(RNNLearner.get_preds)))))
'''
    out = run(['-c', code], home, tmp_path)
    assert out.returncode==0, out.stderr[-3000:]
    got = json.loads(out.stdout.splitlines()[-1])
    assert got['n']==got['toks']>11 and got['top']==1 and got['low']>=0
    assert 'get_preds' in got['doc'] and 'ordered' in got['doc']
    assert got['classes']==['negative','positive'] and got['valid']==11 and (got['emb'],got['hid'])==(400,1152) and got['head']==[50,2]

def test_names(home, tmp_path):
    "What v1's import line gave its users is there: torch, nn, F, np, pd, Path, partial, and the names of its modules"
    names = '''torch nn F np pd Path partial BaseTokenizer SpacyTokenizer Tokenizer Vocab fix_html replace_all_caps replace_rep replace_wrep rm_useless_spaces spec_add_spaces BOS EOS FLD UNK PAD
        TK_MAJ TK_UP TK_REP TK_WREP deal_caps LanguageModelPreLoader SortSampler SortishSampler TextList pad_collate TextDataBunch TextLMDataBunch TextClasDataBunch Text open_text
        TokenizeProcessor NumericalizeProcessor OpenFileProcessor LMLabelList LMTextList RNNLearner LanguageLearner convert_weights decode_spec_tokens get_language_model language_model_learner
        MultiBatchEncoder get_text_classifier text_classifier_learner PoolingLinearClassifier EmbeddingDropout LinearDecoder AWD_LSTM RNNDropout SequentialRNN WeightDropout dropout_mask
        awd_lstm_lm_split awd_lstm_clas_split awd_lstm_lm_config awd_lstm_clas_config TextClassificationInterpretation RNNTrainer Learner untar_data URLs load_learner load_data accuracy error_rate
        Perplexity DatasetType defaults show_doc jekyll_note'''.split()
    out = run(['-c', f'from textnb.all import *\nprint([n for n in {names!r} if n not in globals()])'], home, tmp_path)
    assert out.stdout.strip()=='[]', out.stdout + out.stderr[-2000:]

def test_import_is_light(home, tmp_path):
    "Nothing heavy comes with the import, and the state of the world stays: warnings filters, random state, matplotlib"
    code = '''import sys, warnings, random, numpy, torch
before = list(warnings.filters), random.getstate(), torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.get_num_threads()
from textnb.all import *
print([m for m in ('matplotlib','ipywidgets','IPython','spacy','sentencepiece','tokenizers','sklearn','nbdev','requests') if m in sys.modules])
print(before==(list(warnings.filters), random.getstate(), torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.get_num_threads()))'''
    out = run(['-c', code], home, tmp_path)
    assert out.stdout.split('\n')[:2]==['[]','True'], out.stdout + out.stderr[-2000:]

"The package's metadata, from settings.ini"
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

cfg = ConfigParser(interpolation=None)
cfg.read(Path(__file__).with_name('settings.ini'), encoding='utf-8')
o = cfg['DEFAULT']
def lines(k): return o[k].strip().splitlines()

setup(
    description=o['description'], author=o['author'], author_email=o['author_email'], license_expression=o['license'],
    keywords=o['keywords'].split(), classifiers=lines('classifiers'), python_requires=f">={o['min_python']}",
    install_requires=lines('requirements'), extras_require={k: lines(f'{k}_requirements') for k in ('spacy', 'subword', 'parquet', 'panels', 'ui', 'dev')},
    entry_points={k: lines(k) for k in ('console_scripts', 'nbdev')}, packages=find_packages(include=['textnb', 'textnb.*']),
    package_data={'textnb': ['pretrained/*.tnb']})

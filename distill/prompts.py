"""distill prompts: varied requests in the model's chat form, made of the words, sentences and
paragraphs of a text, as a packed token file. Needs `tokenizers`. The text is not in the replies'
way: only the model answers (see generate)."""

import pathlib
import random
import re

import numpy as np

from . import token_file
from .errors import UserError
from .generate import split_documents

# SmolLM2's chat template with its default system message.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CHAT = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n" \
       "<|im_start|>assistant\n"

TEMPLATES = (
    "What does the word \"{word}\" mean?", "Explain {word} to a child.", "What is {word}?",
    "Write a short story about {word} and {other}.", "Write a poem about {word}.",
    "What is the difference between {word} and {other}?", "Give me five ideas for {word}.",
    "Use the words {word}, {other} and {third} in a sentence each.", "How does {word} work?",
    "List three advantages and three disadvantages of {word}.", "Why is {word} important?",
    "Write an email to a colleague about {word}.", "Describe {word} in two sentences.",
    "Summarize this text in one sentence:\n\n{paragraph}", "Rewrite this more simply: {sentence}",
    "What are the main points of this text?\n\n{paragraph}", "Is this true? {sentence}",
    "Continue this text:\n\n{paragraph}", "Correct the grammar of this sentence: {sentence}",
    "Ask me three questions about this text:\n\n{paragraph}", "Explain this sentence: {sentence}",
    "Give the following text a title:\n\n{paragraph}", "How can I learn about {word}?",
    "Write a dialogue between a teacher and a student about {word}.",
    "What is the history of {word}?", "Write a Python function that deals with {word}.",
    "Give an example of {word} and explain it step by step.", "Tell me a fact about {word}.",
    "What should I know before I start with {word}?", "Plan a day that has to do with {word}.",
)


def _fields(document, rng):
    """Words, a sentence and a paragraph of a document; None if it has too few."""
    words = [w for w in re.findall(r"\b[a-z]{4,12}\b", document)]
    sentences = [s for s in re.findall(r"[A-Z][^.!?\n]{40,200}[.!?]", document)]
    blocks = [b for b in document.split("\n\n") if 150 <= len(b) <= 700]
    if len(set(words)) < 10 or not sentences or not blocks:
        return None
    word, other, third = rng.sample(sorted(set(words)), 3)
    return {"word": word, "other": other, "third": third, "sentence": rng.choice(sentences),
            "paragraph": rng.choice(blocks)}


def make(documents, count, seed):
    """`count` different prompts as text."""
    rng, made = random.Random(seed), {}
    for _ in range(20 * count):
        fields = _fields(rng.choice(documents), rng)
        if fields:
            made[rng.choice(TEMPLATES).format(**fields)] = None
        if len(made) == count:
            return list(made)
    raise UserError(f"prompts: the text gives {len(made)} different prompts, {count} wanted")


def add_arguments(parser):
    parser.add_argument("--data", required=True, metavar="NAME", help="packed text")
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help="holds tokenizer.json")
    parser.add_argument("--out", required=True, metavar="NAME")
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--separator", type=int, default=0)


def run(args):
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError("the package `tokenizers` is missing: pip install tokenizers") from None
    tokenizer = Tokenizer.from_file(str(pathlib.Path(args.tokenizer) / "tokenizer.json"))
    packed = split_documents(token_file.read(args.data, tokenizer.get_vocab_size()),
                             args.separator)
    rng = random.Random(args.seed)
    chosen = rng.sample(packed, min(len(packed), args.count))
    texts = make(tokenizer.decode_batch(chosen), args.count, args.seed)
    prompts = [CHAT.format(system=SYSTEM, text=text) for text in texts]
    encoded = tokenizer.encode_batch(prompts, add_special_tokens=False)
    ids = np.array([i for e in encoded for i in (*e.ids, args.separator)], np.uint16)
    token_file.write(args.out, ids, tokenizer.get_vocab_size(), args.separator, compress=True)
    return 0

"""The prompts of the reference: raw text and chats, short and about 1,500 tokens long. Fixed: token
ids are part of the committed fixture, so a changed prompt needs a new reference."""
import random

RAW = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "#include <stdio.h>\n\nint main(void) {\n",
    "The three laws of motion are:\n1.",
    "Q: What is the boiling point of water?\nA:",
    "1, 1, 2, 3, 5, 8, 13,",
    "SELECT name, COUNT(*) FROM orders",
    "Dear Sir or Madam,\n\nI am writing to",
    "La ville de Paris est",
    "東京は日本の",
    "The mitochondria is the powerhouse of",
    "In 1969, Neil Armstrong",
    "A\tB\tC\n1\t2\t3\n4\t",
    "{\"name\": \"Ada\", \"born\": 1815, \"field\":",
    "🙂🙃 means that",
    "x",
    "    \n\n  ",
]

CHAT = [
    "What is the capital of Italy?",
    "Write a haiku about the sea.",
    "Explain photosynthesis to a child in two sentences.",
    "What is 17 + 25?",
    "Translate 'good morning' into Spanish.",
    "List three uses of a paperclip.",
    "Write a Python function that reverses a string.",
    "Who wrote Pride and Prejudice?",
    "Give me a short recipe for pancakes.",
    "Why is the sky blue?",
    "Summarize: The quick brown fox jumps over the lazy dog.",
    "¿Cuál es la montaña más alta del mundo?",
    "Is 91 a prime number? Explain.",
    "Tell me a joke about computers.",
]

CONVERSATIONS = [
    [("system", "You answer in one short sentence."), ("user", "What is a neural network?")],
    [("user", "My name is Ada."), ("assistant", "Nice to meet you, Ada."), ("user", "What is my name?")],
    [("system", "You are a pirate."), ("user", "How do I cook rice?"),
     ("assistant", "Arr, boil the water first, matey."), ("user", "And then?")],
]


def story(seed, sentences):
    """Plain English with long-range repetition, which greedy decoding has to keep track of."""
    rng = random.Random(seed)
    people = ["Anna", "Ben", "Clara", "David", "Elena", "Farid"]
    places = ["the market", "the old harbour", "the library", "her sister's house", "the station"]
    things = ["a letter", "two apples", "an umbrella", "a small brass key", "a map of the valley"]
    deeds = ["carried {} to {}", "forgot {} near {}", "found {} behind {}", "sold {} at {}"]
    return " ".join(f"On day {day}, {rng.choice(people)} " +
                    rng.choice(deeds).format(rng.choice(things), rng.choice(places)) + "."
                    for day in range(1, sentences + 1))


def table(seed, rows):
    rng = random.Random(seed)
    return "id,city,temperature,humidity\n" + "".join(
        f"{row},{rng.choice(['Oslo', 'Lima', 'Cairo', 'Perth'])},{rng.randint(-20, 45)},"
        f"{rng.randint(0, 100)}\n" for row in range(rows))


def code(seed, functions):
    rng = random.Random(seed)
    names = ["load", "merge", "parse", "rank", "split", "trim"]
    return "".join(
        f"def {rng.choice(names)}_{number}(items, limit={rng.randint(1, 99)}):\n"
        f"    return [item {rng.choice('+-*')} {rng.randint(1, 9)} for item in items][:limit]\n\n\n"
        for number in range(functions))


def all_prompts():
    """(name, raw text or list of (role, content))."""
    prompts = [(f"raw-{i}", text) for i, text in enumerate(RAW)]
    prompts += [(f"chat-{i}", [("user", text)]) for i, text in enumerate(CHAT)]
    prompts += [(f"conversation-{i}", turns) for i, turns in enumerate(CONVERSATIONS)]
    prompts += [("medium-story", story(1, 12)), ("medium-table", table(2, 15)),
                ("medium-code", code(3, 5))]
    prompts += [("long-story", story(4, 95)), ("long-table", table(5, 125)), ("long-code", code(6, 50)),
                ("long-chat-story", [("user", story(7, 92) + "\n\nWho found the letter first?")]),
                ("long-chat-code", [("user", code(8, 49) + "What does the last function return?")])]
    return prompts

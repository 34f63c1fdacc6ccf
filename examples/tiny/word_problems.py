"""Arithmetic word problems with worked solutions, from a seed.

Each function below writes one kind of problem: (question, solution, answer).
"""

import random

NAMES = (
    "Ada Amir Anna Ben Carla Chen Dora Elif Emil Fatima Felix Grace Hugo Ines Ivan Jonas Kira Lena "
    "Leo Mara Milo Nadia Noah Olga Omar Paula Priya Rosa Sam Sofia Theo Tomas Uma Vera Victor Yuki"
).split()
THINGS = (
    "apples beads books bottles buttons cards coins cookies eggs flowers letters lemons marbles nuts "
    "oranges pears pencils plums ribbons seeds shells stamps stickers stones tickets"
).split()
CONTAINERS = "bag basket box crate drawer jar packet tin tray".split()
GOODS = "ball bicycle book coat desk drum kite lamp radio rug scarf tent watch".split()


def sheets(count: int, length: int, seed: int) -> list[str]:
    """`count` documents of `length` problems each, separated by blank lines."""
    rng = random.Random(seed)
    return ["\n\n".join(problem(rng) for _ in range(length)) for _ in range(count)]


def problem(rng: random.Random) -> str:
    question, solution, answer = rng.choice(KINDS)(rng)
    return f"Problem: {question}\nSolution: {solution}\nAnswer: {answer}"


def two_names(rng):
    return rng.sample(NAMES, 2)


def gathering(rng):
    (a, b), things = two_names(rng), rng.choice(THINGS)
    x, y = rng.randint(12, 499), rng.randint(12, 499)
    ending = rng.choice(["do they have together", "is that in all", "do the two of them have"])
    return (
        f"{a} has {x} {things} and {b} has {y} {things}. How many {things} {ending}?",
        f"We add the two amounts. {x} + {y} = {x + y}.",
        f"{x + y} {things}",
    )


def giving_away(rng):
    (a, b), things = two_names(rng), rng.choice(THINGS)
    x = rng.randint(30, 500)
    y = rng.randint(5, x - 5)
    verb = rng.choice(["gives", "sells", "lends", "sends"])
    return (
        f"{a} had {x} {things}, but {verb} {y} of them to {b}. How many {things} are left?",
        f"We take {y} away from {x}. {x} - {y} = {x - y}.",
        f"{x - y} {things}",
    )


def containers(rng):
    name, things, container = rng.choice(NAMES), rng.choice(THINGS), rng.choice(CONTAINERS)
    n, each, loose = rng.randint(3, 30), rng.randint(3, 12), rng.randint(2, 40)
    full = n * each
    return (
        f"There are {each} {things} in each {container}. {name} fills {n} of them and has {loose} "
        f"{things} left over. How many {things} are there?",
        f"{n} times {each} is {n} * {each} = {full}. With the rest, {full} + {loose} = {full + loose}.",
        f"{full + loose} {things}",
    )


def sharing(rng):
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    people, each = rng.randint(2, 12), rng.randint(3, 30)
    rest = rng.randrange(people)
    total = people * each + rest
    return (
        f"{name} shares {total} {things} equally among {people} friends. How many does each friend "
        f"get, and how many are left?",
        f"{people} * {each} = {people * each}, and {total} - {people * each} = {rest}.",
        f"{each} each, {rest} left",
    )


def shopping(rng):
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    price, count = rng.randint(2, 15), rng.randint(2, 12)
    cost = price * count
    paid = (cost // 50 + 1) * 50
    return (
        f"One packet of {things} costs {price} dollars. {name} buys {count} packets and pays with "
        f"{paid} dollars. How much money does {name} get back?",
        f"The packets cost {count} * {price} = {cost} dollars. The change is {paid} - {cost} = "
        f"{paid - cost} dollars.",
        f"{paid - cost} dollars",
    )


def discount(rng):
    goods, percent, price = rng.choice(GOODS), rng.choice([10, 20, 25, 50, 75]), rng.randint(2, 40) * 20
    off = price * percent // 100
    up = rng.random() < 0.4
    new = price + off if up else price - off
    change = "rises by" if up else "is reduced by"
    sign = "+" if up else "-"
    return (
        f"The price of a {goods} is {price} dollars. It {change} {percent} percent. What is the new price?",
        f"{percent} percent of {price} is {price} * {percent} / 100 = {off}. "
        f"The new price is {price} {sign} {off} = {new}.",
        f"{new} dollars",
    )


def journey(rng):
    vehicle = rng.choice(["train", "bus", "car", "boat", "cyclist", "truck"])
    speed, hours = rng.randint(3, 30) * 4, rng.randint(2, 9)
    distance = speed * hours
    if rng.random() < 0.5:
        return (
            f"A {vehicle} travels at {speed} km per hour for {hours} hours. How far does it go?",
            f"Distance is speed times time. {speed} * {hours} = {distance}.",
            f"{distance} km",
        )
    return (
        f"A {vehicle} covers {distance} km in {hours} hours. What is its speed?",
        f"Speed is distance divided by time. {distance} / {hours} = {speed}.",
        f"{speed} km per hour",
    )


def rectangle(rng):
    shape = rng.choice(["garden", "room", "field", "carpet", "table", "wall"])
    a, b = rng.randint(2, 30), rng.randint(2, 12)
    if rng.random() < 0.5:
        return (
            f"A {shape} is {a} m long and {b} m wide. What is its area?",
            f"The area is length times width. {a} * {b} = {a * b}.",
            f"{a * b} square m",
        )
    return (
        f"A {shape} is {a} m long and {b} m wide. What is its perimeter?",
        f"The perimeter is twice the sum of the sides. {a} + {b} = {a + b}, and 2 * {a + b} = {2 * (a + b)}.",
        f"{2 * (a + b)} m",
    )


def equation(rng):
    x, a, b = rng.randint(2, 30), rng.randint(2, 9), rng.randint(2, 90)
    letter = rng.choice("xyzn")
    return (
        f"Solve {a}{letter} + {b} = {a * x + b} for {letter}.",
        f"Subtract {b} from both sides: {a}{letter} = {a * x + b} - {b} = {a * x}. "
        f"Divide both sides by {a}: {letter} = {a * x} / {a} = {x}.",
        f"{letter} = {x}",
    )


def ages(rng):
    (a, b), age, factor, more = two_names(rng), rng.randint(4, 40), rng.randint(2, 3), rng.randint(1, 20)
    word = {2: "twice", 3: "three times"}[factor]
    return (
        f"{a} is {age} years old. {b} is {more} years older than {word} the age of {a}. How old is {b}?",
        f"{word.capitalize()} {age} is {factor} * {age} = {factor * age}. "
        f"{factor * age} + {more} = {factor * age + more}.",
        f"{factor * age + more} years",
    )


def average(rng):
    name, mean = rng.choice(NAMES), rng.randint(10, 60)
    a, b = mean + rng.randint(-9, 9), mean + rng.randint(-9, 9)
    c = 3 * mean - a - b
    return (
        f"{name} scores {a}, {b} and {c} points in three games. What is the average?",
        f"The sum is {a} + {b} + {c} = {a + b} + {c} = {3 * mean}. Divide by 3: {3 * mean} / 3 = {mean}.",
        f"{mean} points",
    )


def sequence(rng):
    start, step = rng.randint(1, 60), rng.randint(2, 25)
    terms = [start + i * step for i in range(5)]
    return (
        f"What is the next number in {', '.join(map(str, terms[:4]))}?",
        f"Each number is {step} more than the one before. {terms[3]} + {step} = {terms[4]}.",
        f"{terms[4]}",
    )


def sum_and_difference(rng):
    b = rng.randint(3, 60)
    a = b + rng.randint(2, 40)
    total, gap = a + b, a - b
    return (
        f"Two numbers have the sum {total} and the difference {gap}. Which numbers are they?",
        f"Twice the larger is {total} + {gap} = {2 * a}, so it is {2 * a} / 2 = {a}. "
        f"The smaller is {a} - {gap} = {b}.",
        f"{a} and {b}",
    )


def earning(rng):
    name, goods = rng.choice(NAMES), rng.choice(GOODS)
    wage, days = rng.randint(4, 30), rng.randint(3, 12)
    price = wage * days
    return (
        f"{name} saves {wage} dollars every day for a {goods} that costs {price} dollars. "
        f"How many days does it take?",
        f"Divide the price by the daily amount. {price} / {wage} = {days}.",
        f"{days} days",
    )


def comparing(rng):
    (a, b), things = two_names(rng), rng.choice(THINGS)
    y = rng.randint(10, 200)
    x = y + rng.randint(3, 150)
    return (
        f"{a} collected {x} {things} and {b} collected {y}. How many more {things} did {a} collect?",
        f"The difference is {x} - {y} = {x - y}.",
        f"{x - y} {things}",
    )


KINDS = [
    gathering, giving_away, containers, sharing, shopping, discount, journey, rectangle,
    equation, ages, average, sequence, sum_and_difference, earning, comparing,
]  # fmt: skip

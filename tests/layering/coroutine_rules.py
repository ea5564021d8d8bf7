"""The shape of coroutines: co_await is a statement of its own or a whole initialiser, and no coroutine is a lambda
with captures. Compilers of our time destroy temporaries twice, and captures die before the coroutine, elsewhere."""

import re

from source_text import CODE_ENDINGS, Finding, blanked, files, line_of, read

OPEN = {"(": ")", "[": "]", "{": "}"}
CLOSE = {value: key for key, value in OPEN.items()}

MACRO_NAME = re.compile(r"\b([A-Z][A-Z0-9_]*[A-Z0-9])\s*$")
CONTROL = re.compile(r"(?:(?:else|do)\b|(?:if(?:\s+constexpr)?|for|while|switch)\s*(?=\()|case\b[^:?]*:(?!:)|\w+\s*:(?!:))\s*")
TARGET = re.compile(r"[\w:\s*&.]*(?:->[\w:\s*&.]*)*")
BAD_AFTER = re.compile(r"\?|&&|\|\||,|==|!=|<=|>=|<<|(?<![-<>])[-+*/%^|](?!>)")


def enclosing_brackets(text, offset):
    """Offsets of the brackets that are open at offset, outermost first."""
    stack = []
    for match in re.finditer(r"[()\[\]{}]", text[:offset]):
        if match.group() in OPEN:
            stack.append(match.start())
        elif stack:
            stack.pop()
    return stack


def matching_close(text, offset):
    depth = 0
    for match in re.compile(r"[()\[\]{}]").finditer(text, offset):
        depth += 1 if match.group() in OPEN else -1
        if depth == 0:
            return match.start()
    return len(text)


def statement_prefix(text, offset):
    """What stands between the start of the statement (or the innermost open bracket) and offset."""
    position, depth = offset - 1, 0
    while position >= 0:
        char = text[position]
        if char in CLOSE:
            if char == "}" and depth == 0:
                break
            depth += 1
        elif char in OPEN:
            if depth == 0:
                break
            depth -= 1
        elif char == ";" and depth == 0:
            break
        position -= 1
    return text[position + 1:offset].strip()


def statement_rest(text, offset):
    """(text up to the end of the statement without what is inside brackets, whether it ends with ';')."""
    rest, position = [], offset
    while position < len(text):
        char = text[position]
        if char == ";":
            return "".join(rest), True
        if char in CLOSE:
            break
        if char in OPEN:
            position = matching_close(text, position)
            rest.append(char)
        else:
            rest.append(char)
        position += 1
    return "".join(rest), False


def strip_control(prefix):
    """Removes `if (...)`, `else`, `case x:`, labels and the like from the front."""
    while True:
        match = CONTROL.match(prefix)
        if not match:
            return prefix
        position = match.end()
        if position < len(prefix) and prefix[position] == "(" and not match.group().rstrip().endswith(":") \
                and match.group().strip() not in ("else", "do"):
            position = matching_close(prefix, position) + 1
        prefix = prefix[position:].strip()


def without_groups(text):
    """Without balanced <...> and [...]."""
    previous = None
    while previous != text:
        previous = text
        text = re.sub(r"<[^<>()]*>(?!=)", "", re.sub(r"\[[^\[\]]*\]", "", text))
    return text


def await_problem(text, offset):
    """Why the co_await at offset is not a whole statement or initialiser, or None."""
    stack = enclosing_brackets(text, offset)
    for bracket in stack:
        if text[bracket] == "(":
            name = MACRO_NAME.search(text, 0, bracket)
            if name:
                return f"inside an argument of the macro {name.group(1)}"
        if text[bracket] == "{" and text[:bracket].rstrip().endswith("("):
            return "inside a statement expression"
    if stack and text[stack[-1]] == "(":
        return "inside parentheses: a condition, an argument or a part of an expression"
    if stack and text[stack[-1]] == "[":
        return "inside brackets"

    prefix = strip_control(statement_prefix(text, offset))
    rest, ended = statement_rest(text, offset + len("co_await"))
    if not ended:
        return "inside braces"
    if re.match(r"co_return\b", prefix):
        return "in a co_return: make it two statements"
    if re.match(r"(return|throw|co_yield)\b", prefix):
        return "in a return: make it two statements"
    if prefix not in ("", "(void)"):
        if not prefix.endswith("=") or re.search(r"[=!<>+\-*/%^&|]=$", prefix):
            return f"after '{prefix[-40:]}': only `T y =` or `y =` may stand before it"
        target = without_groups(prefix[:-1])
        if not TARGET.fullmatch(target) or "&&" in target.replace("auto&&", "").replace("auto &&", ""):
            return f"after '{prefix[-40:]}': only `T y =` or `y =` may stand before it"
    bad = BAD_AFTER.search(without_groups(rest.strip()), 1)
    if bad:
        return f"followed by '{bad.group()}': await first, then use the value"
    return None


LAMBDA_TAIL = re.compile(r"\s*(?:mutable|noexcept|constexpr|static|const|->|\[\[[^\]]*\]\]|[\w:]+|[<>,*&\s])*\s*")
NOT_SUBSCRIPT = re.compile(r"(?:\b(?:return|co_return|co_await|co_yield|case|else|in)|[^\w\s)\]])\s*$|^\s*$")


def lambdas(text):
    """(offset, capture list, offset of the body's '{') of every lambda."""
    for match in re.finditer(r"\[", text):
        start = match.start()
        if text[start:start + 2] == "[[" or text[max(0, start - 1):start] == "[":
            continue
        if not NOT_SUBSCRIPT.search(text, max(0, start - 80), start):
            continue
        end = matching_close(text, start)
        position = end + 1
        template = re.compile(r"\s*<").match(text, position)
        if template:
            position = text.find("(", position)
            if position < 0:
                continue
        parameters = re.compile(r"\s*\(").match(text, position)
        if parameters:
            position = matching_close(text, parameters.end() - 1) + 1
        position = LAMBDA_TAIL.match(text, position).end()
        if position < len(text) and text[position] == "{":
            yield start, text[start + 1:end].strip(), position


def check_text(path, text):
    text = blanked(text)
    findings = []
    for match in re.finditer(r"\bco_await\b", text):
        # A definition of the operator or a macro is not an await.
        if re.search(r"operator\s*$", text[:match.start()]):
            continue
        problem = await_problem(text, match.start())
        if problem:
            findings.append(Finding(path, line_of(text, match.start()), f"co_await {problem}"))
    bodies = [(start, captures, body, matching_close(text, body)) for start, captures, body in lambdas(text)]
    for start, captures, body, end in bodies:
        if not captures:
            continue
        own = list(text[body:end])
        for _, _, inner, inner_end in bodies:
            if body < inner < end:
                own[inner - body:inner_end - body] = " " * (inner_end - inner)
        if re.search(r"\bco_(await|return|yield)\b", "".join(own)):
            findings.append(Finding(path, line_of(text, start), f"a coroutine is a lambda with captures [{captures}]"))
    return findings


def check(root):
    findings = []
    for path in files(root, CODE_ENDINGS):
        text = read(root, path)
        if re.search(r"\bco_(await|return|yield)\b", text):
            findings.extend(check_text(path, text))
    return findings

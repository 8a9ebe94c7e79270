"""Phrases that introduce an answer, in the languages that models answer in."""

import re

_BOLD = r"(?:\*\*|__|[*_](?=[\s:：]))?+"
_SO = (
    r"(?:\s+(?:therefore|thus|then|hence|simply|just|indeed|donc|alors|daher|also|somit|entonces"
    r"|por\s+lo\s+tanto|quindi|portanto))?+"
)
_IS_WORDS = r"(?:is|equals|must\s+be|comes\s+out\s+to\s+be|comes\s+out\s+to|comes\s+to)\b"
IS = rf"\s*+{_BOLD}\s*+(?:{_IS_WORDS}{_SO}\s*+:?|[:=→⇒：])\s*+{_BOLD}\s*"
NOUNS = ("answer", "solution", "ans:", "ans=", "ans ", "ans.")
ENGLISH = re.compile(rf"(?<!hope this )(?:answer|solution|(?<!\w)ans\.?){IS}(?P<a>[^\n]+)", re.I)
"""To be matched where one of the nouns stands."""
_NOUN = (
    r"(?:\b(?:respuesta|réponse|antwort|ergebnis|lösung|risposta|resposta|ответ|відповідь|odpowiedź"
    r"|odpověď|antwoord|cevap|yanıt|jawaban(?:nya)?|đáp\s+(?:án|số)|svar(?:et)?|vastaus|απάντηση"
    r"|răspuns(?:ul)?|solución|solução|soluzione)\b"
    r"|答え|解答|正解|答案|答(?=[:：])|정답|(?<!\w)답|उत्तर|الجواب|الإجابة|คำตอบ|תשובה)"
)
_KIND = (
    r"(?:\s+(?:final|finale|correcta|correcte|correta|corretta|endgültige|النهائية|cuối\s+cùng)"
    r"\b)?+"
)
_VERB = r"(?:es|est|ist|lautet|beträgt|è|é|to|är|er|on|is|adalah|là|este|هي|هو|है|คือ)(?!\w)"
_FOREIGN_IS = (
    rf"{_KIND}\s*+{_BOLD}\s*+(?:{_VERB}{_SO}\s*+[:：]?|[:：=—–】]|[是为為は은는]\s*+[:：、，]?)"
    rf"\s*+{_BOLD}\s*"
)
FOREIGN = re.compile(rf"{_NOUN}{_FOREIGN_IS}(?P<a>[^\n]+)", re.I)
HEADING = re.compile(
    r"^[#*_ ]*+(?:the )?(?:final |最终|最終)?(?:answer|solution|result|respuesta|réponse|antwort"
    r"|risposta|resposta|ответ|答案|答え|解答|正解|정답)(?: final| finale)?[*_:： ]*+\n\s*+"
    r"(?P<a>[^\n]+)",
    re.I | re.M,
)
_LABELS = (
    r"(?:(?:the|das|die|le|la|el|il|o|a)\s+)?(?:total|grand total|total cost|sum|result"
    r"|final result|final value|value|résultat|resultado|risultato|ergebnis|gesamt|summe|suma|somme"
    r"|итого?|всего|结果|合计|总计|总共|共計|合計|結果|결과|합계)"
)
LABELLED_LINE = re.compile(rf"^[\W_]*{_LABELS}(?:{IS}|{_FOREIGN_IS})(?P<a>[^\n]+)$", re.I)
LONE_LABEL = re.compile(
    r"[*_]*[^\W\d_]+(?: [^\W\d_]+){0,2}[*_]*\s*[:：]\s*[*_]*\s*(?P<a>[^\n:：]+)"
)
"""A response of one line: `Distance: 12 km`."""
TAGS = (("<answer>", "</answer>"), ("<|begin_of_box|>", "<|end_of_box|>"))
HEDGES = re.compile(
    r"\b(?:not|none|no|wrong|isn't|never|cannot|unsure|sure|maybe|guess|perhaps|possibly|either)\b"
    r"|\?|不是|可能|也许|だろう|かもしれ|아마",
    re.I,
)
"""Words around a value that keep it from being an answer."""
SAYS = re.compile(
    rf"\A(?:(?:so|thus|therefore),?\s+)?(?:the\s+)?(?:final\s+)?answer{IS}|\A{_NOUN}{_KIND}\s*+[:：]\s*",
    re.I,
)
AGAIN = re.compile(rf"\b(?:(?:the|my)\s+(?:(?:final|correct)\s+)?|final\s+)answer{IS}", re.I)
DENIED = re.compile(r"\W*(?:not|never|no|neither|nicht|pas|non|não|не|不)(?!\w)", re.I)
"""At the start of what a phrase introduces: it says what the answer is not."""
_SUPPOSED = re.compile(
    r"(?:\b(?:if|suppose|supposing|assume|assuming|unless|whether|imagine|wenn|falls|если"
    r"|supposons|supongamos)\b|如果|假设|假如|若|是否|もし|만약)"
    r"(?:(?!\b(?:so|then|thus|hence|therefore|we)\b)[^.,;:!?\n。！？，])*\Z",
    re.I,
)


def is_supposed(text: str, at: int) -> bool:
    """True where what begins there is only supposed, as in `if the answer is 5`."""
    return _SUPPOSED.search(text, max(0, at - 40), at) is not None

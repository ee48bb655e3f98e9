"""Finds the value that a short sentence gives: 5 in "The sum of the digits is
5." A sentence that denies, doubts or compares has no value."""

import re

MAX_SENTENCE = 200  # characters

INTRODUCTION = re.compile(
  r'(?:(?i:so|thus|hence|therefore|finally|and),? )*'
  r'(?:(?i:the|our|my|final|correct|required|desired|numerical) )*'
  r'(?i:answer|result|solution|value)'
  r'(?i: to (?:the|this) (?:problem|question))?'
  r'(?i:: ?| is(?: therefore| thus| simply| equal to)?:? ?| = ?| equals ?)|'
  r'(?i:(?:so|thus|hence|therefore|then),? )(?=[-+\d($\\]|[a-zA-Z] ?=)|'
  r'(?i:answer ?(?=[-\d$(]))|(?i:total|sum|ans): ?|'
  r'\\(?:therefore|implies|Rightarrow) ?'
)
CHINESE = re.compile(
  r'(?:(?:最终|正确|最后)?的?答案(?:应?(?:是|为))?|答|解|所以|因此|因而|于是|那么|故|则|即|'
  r'综上(?:所述|可知|可得)?|(?:由此|从而)?(?:解得|可得|得到?|可知)|\\therefore) ?'
  r'[:,]? ?'
)
CHINESE_SUBJECT = re.compile(
  r'([\u4e00-\u9fffa-zA-Z_(){}\\+ ]{1,24}?)(?:等于|是|为|共?有|得|共)[:,]? ?'
  r'(?=[-+\d\\($¥a-zA-Z]|[零一二两三四五六七八九十百]+(?:$|分之))'
)
CHINESE_DENIAL = re.compile(
  '[不非没未勿错误倍约]|[大小多少高低]于|可能|也许|或许|大概|至少|至多|超过|一半|平方|相反|倒数|如果|若'
)
VERB = (
  r'(?:(?:is|are|was|were|will be)(?: (?:at|equal to|exactly|simply|then|'
  r'therefore|thus|given by|just|a total of))?|equals?|has|have|takes?|costs?|'
  r'pays?|needs?|makes?|earns?|holds?|weighs?|contains?|owns?|gets?|receives?|sells?|'
  r'spends?|saves?|uses?|sold|made|earned|spent|paid|had)'
)
SENTENCE = re.compile(
  r'(?i)(?:(?:so|thus|hence|therefore|then|finally|in total|altogether),? )?'
  rf"([a-z\\(][a-z\d\\{{}}()_^'|,+*/ -]{{0,100}}?) {VERB}:? "
  r'(?=[-+]?(?:\d|[\\($\[{|.£€¥]|[a-z](?![a-z])|(?:no|pi|sqrt|zero|one|two|'
  r'three|four|five|six|seven|eight|nine|ten|eleven|twelve|half|negative|minus|'
  r'(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|'
  r'eigh|nine)ty)(?![a-z])))(.+)'
)
DENIAL = re.compile(
  r"(?i)^no\b|\b(?:not|never|neither|nor|either|none|n't|\w+n't|cannot|wrong|"
  r'false|incorrect\w*|impossible|unlikely|unknown|if|whether|unless|doubt\w*|'
  r'perhaps|maybe|might|could|would|should|suppose|assume|except|probably|'
  r'possibly|approximately|about|roughly|nearly|almost|guess\w*|previous|'
  r'contrary|unlike|instead|hardly|barely|supposed|said|claim\w*|example|'
  r'think|believe|hope|feel|wonder|rather|cannot|denied|denies|deny|refute\w*|'
  r'(?:of|than|to) (?:the|my|our) (?:\w+ )?(?:answer|solution|result)|'
  r'(?:half|twice|double|triple|thrice) (?:of )?(?:the|my|our)|'
  r'(?:is|are|was|were|has|have|equals?) ?[-\d\\($])'
)
NO_VALUE = re.compile(
  rf'(?i)\b(?:{VERB}|not|never|than|but|if|when|then|while|whereas|because|since|'
  r'unless|approximately|about|roughly|perhaps|maybe|minus|plus|times|instead|'
  r'wrong|false|at (?:least|most)|(?:or|and) (?:more|less|so))\b'
)
ARTICLE = re.compile(r'(?i)(?:an?|the) (?=[-+]?[\d$£€¥])')
COUNTED = re.compile(
  r'(?i)(\d[\d,]*) (?:possible|different|distinct|such|unique|total) ([a-z]+)\.?|'
  r'(\d[\d,]*) (years|days|months|weeks) old\.?'
)
CHANGE = re.compile(
  r'(?i)an? (increase|decrease|discount|profit|loss|gain|reduction|growth|'
  r'decline) of (\d+(?:\.\d+)?) ?(?:\\?%|percent)\.?'
)


def value(text: str) -> str:
  """The value that a sentence or an introduction is followed by; otherwise the
  text."""
  if match := INTRODUCTION.match(text):
    text = text[match.end() :]
  elif len(text) <= MAX_SENTENCE:
    text = _value_of_sentence(text)
  if match := CHANGE.fullmatch(text):
    return f'{match[2]}% {match[1].lower()}'
  if match := COUNTED.fullmatch(text):
    return ' '.join(filter(None, match.groups()))
  return ARTICLE.sub('', text, count=1) if ARTICLE.match(text) else text


def _value_of_sentence(text):
  if not text.isascii():
    while (match := CHINESE.match(text)) and match.end() < len(text):
      text = text[match.end() :]
    match = CHINESE_SUBJECT.match(text)
    if match and not CHINESE_DENIAL.search(match[1]):
      text = text[match.end() :]
    return text
  match = SENTENCE.fullmatch(text)
  if not match or DENIAL.search(match[1]) or NO_VALUE.search(match[2]):
    return text
  return match[2]


def has_money(text: str) -> bool:
  """Whether each $ of a text opens an amount of money: $40 and $50."""
  signs = re.findall(r'(?<!\\)\$', text)
  return len(signs) == len(re.findall(r'(?:^|(?<=[ (]))\$(?=\d)', text))

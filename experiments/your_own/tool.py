"""A tool, which responses call as <add>1 2 3</add>; {tool} in a prompt template
is its docstring. The package's own example is the calculator."""


def add(arguments, record):
  """<add>numbers</add> is their sum, e.g. <add>1 2 3</add>"""
  try:
    return str(sum(map(int, arguments.split())))
  except ValueError:
    return 'error'

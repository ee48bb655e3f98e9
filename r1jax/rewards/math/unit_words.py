"""The names of units and of counted things, written by
`experiments.verifiers.unit_words` from pint and GSM8K; not edited."""

# name=other name=...
UNITS = """
abampere abcoulomb aberdeen abfarad abhenry abohm absiemens=abmho abvolt acre
ampere=amp angstrom arcminute arcsecond atmosphere bar barrel
barye=barad=barie=barrie=baryd baud=bps bdft becquerel biot bit btu buckingham
bushel byte=octet calorie candela carat celsius=degc=degreec centimeter
centipoise century=centuries clausius coulomb cup curie dalton darcy day debye
decade decibel decibelmicrowatt decibelmilliwatt decibelwatt decimeter decitex
degree=arcdeg=arcdegree denier drachm dram dtex dyne electronvolt enzymeunit
eon erg fahrenheit=degf=degreef farad faraday fathom feethg femtometer fermi
fluidram foot=feet footpound fortnight franklin=esu=statc=statcoulomb furlong
galileo gallon gauss gilbert grain gram hectare henry hertz hogshead
horsepower hour hundredweight inch=inches incheshg joule jute katal kayser
kelvin=degk=degreek kilogram kilometer kip knot kph lambert langley lbt league
lightyear liter=litre lumen lux maxwell meter=metre microgram microliter
micrometer micromole micron mile millennium=millennia milliarcsecond milligram
minute mole month mph neper newton oersted ohm ounce ozt parsec pascal peck
pennyweight pica pint pixel=pel poise pound poundal ppi=dpi=ppi quart radian
rankine=degr=degreer reaumur=degre=degreere reyn rod roentgen rutherford
rydberg second=sec siemens=mho sievert slinch=slugette slm slug sqdeg
statampere statfarad stathenry statmho statohm stattesla statvolt statweber
steradian stere stilb stokes stone svedberg sverdrup tablespoon tansec
teaspoon tesla therm ton tonne torr townsend volt watt watthour weber week
yard year
"""
COUNTED = """
acorns acres adults animals ants apples articles bags balloons balls bananas
barrels bars basketballs baskets beads beats berries bills birds biscuits
blocks blueberries boats bones books bottles bouquets boxes boys bracelets
bricks brownies bugs buses bushels bushes buttons cakes calories campers
candies candles cans cards carnations carrots cars cases cats chairs chickens
children chips chocolates circles classes clothes coats coins comics computers
containers cookies cows crackers crayons crickets cupcakes cups customers
daisies days decorations deer desserts dice dishes dogs dolls donuts doors
doughnuts dresses driveways ducks earrings ears eggs emails employees
envelopes episodes erasers eyes feet females fireworks fish fishes flies
floors flowers flyers followers friends frogs fruits gallons games geese
gemstones gifts girls glasses gnomes goals goats grams gumballs guppies hats
hits homes horses hotdogs hours houses inches insects instances items jars
jellybeans keys kids kilograms kilometers kilos kittens lambs laps leaves
legos legs lemons letters levels lines lions liters loads loaves logs
lollipops machines mangoes marbles marshmallows matches matchsticks meals
meatballs members men meters mice miles milligrams milliliters minnows minutes
mistakes months movies mushrooms nails necklaces nickels nights notebooks nuts
objects oranges ounces oysters packages packs pages paintings pancakes papers
parents passengers pastries patients peaches peanuts pebbles pencils pennies
pens people petals pets phones photos pictures pieces pies pillows pills pints
pizzas planks plants plates players points poodles portions posters potatoes
pounds presents problems puppies questions rabbits rooms roses rounds
sandwiches scarves scoops seashells seats seconds sections seeds servings sets
sharks sheep sheets shells shelves shirts shoes skips slices sodas songs
spaces spokes spoons spots squares stairs stamps stars steaks steps stickers
sticks strawberries straws students sweets tables tablespoons teeth tennis
texts tickets tiles tires tissues toads tokens tomatoes tons touchdowns towels
toys trees trips tubs tulips turns turtles vegetables votes walls watermelons
weeks wheels whiskers widgets women words yards years
"""

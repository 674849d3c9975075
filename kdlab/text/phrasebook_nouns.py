"""The nouns of the phrasebook, by kind: a template asks for a kind, so that what it says makes sense.

`English / synonym>plural=number (preposition) | article German~weak ending/plural (preposition)*weight + …`;
"@a,b,c" are weights in Berlin, München, Wien; "+" at the start: in the small size too. The same English noun
in two lines is a real ambiguity. The preposition is that of "we meet at the station".
"""

# One adjective of the list may stand before any noun of the kind; "hot#2" is another meaning of "hot".
ADJECTIVES_OF = {
    "culture": "old new big small famous interesting modern",
    "monument": "old big small beautiful famous interesting",
    "landmark": "old big small beautiful famous",
    "service": "new small big nearest",
    "outlet": "new small big nearest good",
    "nature": "beautiful big small quiet",
    "gastro": "good cheap nice quiet small expensive",
    "dish": "hot hot#2 cold big small good",
    "plate": "hot cold big small good",
    "baking": "fresh good",
    "produce": "fresh ripe cheap good",
    "hotdrink": "hot strong",
    "colddrink": "cold big small",
    "mass": "cold fresh",
    "clothing": "red blue green white grey black warm light light#2 cheap beautiful new elegant",
    "documents": "new old",
    "ticket": "new old",
    "key": "new old small",
    "luggage": "black brown red heavy big small new old",
    "gear": "black red big small new old",
    "device": "new old cheap expensive",
    "gift": "cheap small beautiful nice",
    "toiletry": "new clean small",
    "room": "quiet small big cheap nice bright",
    "table": "quiet small big nice",
    "hire": "small new red old",
    "railway": "next last fast",
    "furniture": "new comfortable small big",
    "switch": "",
    "fixture": "",
    "lift": "",
    "bedding": "new clean small",
    "opening": "",
    "eyewear": "black new old",
    "mail": "long short",
    "home": "quiet small old beautiful modern big",
    "kin": "",
    "acquaintance": "new old nice#2",
    "staff": "friendly young",
    "body": "",
    "bodies": "",
    "city": "",
    "country": "",
    "language": "",
    "money": "",
    "bill": "",
    "reading": "interesting old",
}

AFTER_THE = ("nearest", "next", "last")  # adjectives that want a definite article

NOUNS = {
    "culture": """
+ museum | das Museum/Museen
theatre | das Theater/Theater
cinema | das Kino/Kinos
zoo | der Zoo/Zoos*4 + der Tiergarten/Tiergärten@1,1,6
library | die Bibliothek/Bibliotheken*3 + die Bücherei/Büchereien
gallery | die Galerie/Galerien
opera house | das Opernhaus/Opernhäuser*2 + die Oper/Opern*3
swimming pool | das Schwimmbad/Schwimmbäder*5 + das Freibad/Freibäder*2
""",
    "monument": """
+ castle | das Schloss/Schlösser*3 + die Burg/Burgen*2
+ church (in) | die Kirche/Kirchen
+ tower | der Turm/Türme (an)
cathedral | der Dom/Dome*3 + die Kathedrale/Kathedralen*2
monastery | das Kloster/Klöster
town hall / city hall | das Rathaus/Rathäuser (an)
palace | der Palast/Paläste*2 + das Schloss/Schlösser
chapel | die Kapelle/Kapellen
fortress | die Festung/Festungen
""",
    "landmark": """
bridge (on) | die Brücke/Brücken (auf)
square (in) | der Platz/Plätze (auf)
fountain | der Brunnen/Brunnen (an)
statue | die Statue/Statuen (an)
garden (in) | der Garten/Gärten
park (in) | der Park/Parks
market | der Markt/Märkte (auf)
harbour (in) | der Hafen/Häfen
""",
    "service": """
+ station / train station | der Bahnhof/Bahnhöfe (an)
+ bank | die Bank/Banken
post office | die Post (bei)@2,2,3 + das Postamt/Postämter@1,1,2
police station | die Polizeiwache/Polizeiwachen@3,2,1 + die Polizeistation/Polizeistationen@1,2,3
hospital (in) | das Krankenhaus/Krankenhäuser@6,4,2 + das Spital/Spitäler@0,0,4
airport | der Flughafen/Flughäfen (an)
bus stop | die Bushaltestelle/Bushaltestellen (an)
car park | der Parkplatz/Parkplätze (auf)*2 + das Parkhaus/Parkhäuser
petrol station | die Tankstelle/Tankstellen (an)
cash machine | der Geldautomat~en/Geldautomaten (an)*4 + der Bankomat~en/Bankomaten (an)@0,0,8
ticket office | der Fahrkartenschalter/Fahrkartenschalter (an)
campsite | der Campingplatz/Campingplätze (auf)
youth hostel | die Jugendherberge/Jugendherbergen
embassy | die Botschaft/Botschaften
""",
    "outlet": """
+ supermarket | der Supermarkt/Supermärkte
+ hotel | das Hotel/Hotels
pharmacy | die Apotheke/Apotheken
bakery | die Bäckerei/Bäckereien*4 + der Bäcker/Bäcker (bei)
butcher's shop>butcher's shops | die Metzgerei/Metzgereien@1,5,0 + die Fleischerei/Fleischereien@4,0,1 \
+ die Fleischhauerei/Fleischhauereien@0,0,5
bookshop | die Buchhandlung/Buchhandlungen*3 + der Buchladen/Buchläden
hairdresser's>hairdressers | der Friseursalon/Friseursalons
laundry | die Wäscherei/Wäschereien
""",
    "nature": """
+ lake | der See/Seen (an)
+ river | der Fluss/Flüsse (an)
+ bank (on) | das Ufer/Ufer (an)
beach (on) | der Strand/Strände (an)
forest (in) / wood (in) | der Wald/Wälder
island (on) | die Insel/Inseln (auf)
valley (in) | das Tal/Täler
waterfall | der Wasserfall/Wasserfälle (an)
coast (on) | die Küste/Küsten (an)
meadow (in) | die Wiese/Wiesen (auf)
""",
    "gastro": """
+ restaurant | das Restaurant/Restaurants*4 + das Lokal/Lokale@1,1,3
+ café (in) | das Café/Cafés@5,5,3 + das Kaffeehaus/Kaffeehäuser@0,0,4
pub (in) | die Kneipe/Kneipen@5,3,1 + das Wirtshaus/Wirtshäuser@0,3,1 + das Beisl/Beisln@0,0,5
bar | die Bar/Bars
inn | das Gasthaus/Gasthäuser*3 + der Gasthof/Gasthöfe*2
beer garden (in) | der Biergarten/Biergärten
ice cream parlour | die Eisdiele/Eisdielen@5,5,1 + der Eissalon/Eissalons@0,0,5
""",
    "dish": """
+ soup | die Suppe/Suppen
+ sausage | die Wurst/Würste
pizza | die Pizza/Pizzen
omelette | das Omelett/Omeletts
""",
    "plate": """
meatball | die Frikadelle/Frikadellen@1,1,0 + die Bulette/Buletten@6,0,0 \
+ das Fleischpflanzerl/Fleischpflanzerl@0,5,0 + das Fleischlaberl/Fleischlaberl@0,0,6
schnitzel>schnitzels | das Schnitzel/Schnitzel
dumpling | der Knödel/Knödel@1,5,5 + der Kloß/Klöße@4,0,0
pancake | der Pfannkuchen/Pfannkuchen@1,6,1 + der Eierkuchen/Eierkuchen@4,0,0 \
+ die Palatschinke/Palatschinken@0,0,6
""",
    "baking": """
+ roll / bread roll | das Brötchen/Brötchen@4,1,0 + die Schrippe/Schrippen@3,0,0 + die Semmel/Semmeln@0,6,7
cake>cakes | der Kuchen/Kuchen
+ sandwich | das Sandwich/Sandwiches
pretzel | die Brezel/Brezeln@5,2,2 + die Breze/Brezen@0,5,1
croissant | das Croissant/Croissants*3 + das Hörnchen/Hörnchen@1,1,0 + das Kipferl/Kipferln@0,0,4
salad | der Salat/Salate
""",
    "produce": """
+ apples=pl | pl Äpfel
potatoes=pl | pl Kartoffeln@9,7,4 + pl Erdäpfel@0,0,5
tomatoes=pl | pl Tomaten@9,9,4 + pl Paradeiser@0,0,5
oranges=pl | pl Orangen@3,9,9 + pl Apfelsinen@4,0,0
apricots=pl | pl Aprikosen@9,8,2 + pl Marillen@0,1,7
mushrooms=pl | pl Pilze@9,5,3 + pl Schwammerl@0,3,4
strawberries=pl | pl Erdbeeren
plums=pl | pl Pflaumen@8,2,2 + pl Zwetschgen@1,6,1 + pl Zwetschken@0,0,6
""",
    "hotdrink": """
+ coffee | der Kaffee/Kaffees
+ tea | der Tee/Tees
cappuccino | der Cappuccino/Cappuccinos
espresso | der Espresso/Espressos
""",
    "colddrink": """
+ beer | das Bier/Biere
apple juice | der Apfelsaft/Apfelsäfte
+ orange juice | der Orangensaft/Orangensäfte
lemonade | die Limonade/Limonaden
mineral water | das Mineralwasser/Mineralwasser*3 + das Wasser/Wasser
cola | die Cola/Colas@5,5,1 + das Cola/Colas@0,0,4
""",
    "mass": """
water=mass | das Wasser
milk=mass | die Milch
cream=mass | die Sahne@5,4,1 + der Rahm@0,1,1 + das Obers@0,0,5
""",
    "clothing": """
jacket | die Jacke/Jacken
coat | der Mantel/Mäntel
shirt | das Hemd/Hemden
dress | das Kleid/Kleider
skirt | der Rock/Röcke
jumper / sweater | der Pullover/Pullover*4 + der Pulli/Pullis
trousers=pl | die Hose/Hosen
gloves=pl | pl Handschuhe
shoes=pl | pl Schuhe
scarf>scarves | der Schal/Schals*3 + das Halstuch/Halstücher
socks=pl | pl Socken
blouse | die Bluse/Blusen
""",
    "ticket": """
+ ticket | die Fahrkarte/Fahrkarten@4,4,3 + der Fahrschein/Fahrscheine@2,1,3 + das Ticket/Tickets*2
""",
    "documents": """
+ passport | der Pass/Pässe*2 + der Reisepass/Reisepässe
credit card | die Kreditkarte/Kreditkarten
driving licence | der Führerschein/Führerscheine
visa | das Visum/Visa
""",
    "key": """
+ key | der Schlüssel/Schlüssel
""",
    "luggage": """
+ suitcase | der Koffer/Koffer
+ bag | die Tasche/Taschen
backpack / rucksack | der Rucksack/Rucksäcke
""",
    "gear": """
umbrella | der Regenschirm/Regenschirme*2 + der Schirm/Schirme
wallet | der Geldbeutel/Geldbeutel@1,6,0 + das Portemonnaie/Portemonnaies@5,1,0 \
+ die Geldbörse/Geldbörsen@2,2,7
notebook | das Notizbuch/Notizbücher
""",
    "eyewear": """
glasses=pl | die Brille/Brillen
glasses=pl | pl Gläser
""",
    "device": """
camera | die Kamera/Kameras*3 + der Fotoapparat/Fotoapparate
mobile phone | das Handy/Handys*4 + das Mobiltelefon/Mobiltelefone
laptop | der Laptop/Laptops
watch | die Uhr/Uhren*2 + die Armbanduhr/Armbanduhren
charger | das Ladegerät/Ladegeräte
torch | die Taschenlampe/Taschenlampen
""",
    "gift": """
present / gift | das Geschenk/Geschenke
souvenir | das Souvenir/Souvenirs*2 + das Andenken/Andenken
picture | das Bild/Bilder
vase | die Vase/Vasen
mug | die Tasse/Tassen@2,2,1 + der Becher/Becher@2,1,0 + das Häferl/Häferln@0,0,5
""",
    "toiletry": """
towel | das Handtuch/Handtücher
toothbrush | die Zahnbürste/Zahnbürsten
""",
    "bedding": """
pillow | das Kissen/Kissen@5,5,1 + der Polster/Pölster@0,0,4
blanket | die Decke/Decken
""",
    "room": """
single room | das Einzelzimmer/Einzelzimmer
double room | das Doppelzimmer/Doppelzimmer
room (in) | das Zimmer/Zimmer
holiday flat / holiday apartment | die Ferienwohnung/Ferienwohnungen
""",
    "table": """
table | der Tisch/Tische
""",
    "hire": """
car | das Auto/Autos*4 + der Wagen/Wagen
bike / bicycle | das Fahrrad/Fahrräder*4 + das Rad/Räder@1,2,4
boat | das Boot/Boote
motorbike | das Motorrad/Motorräder
""",
    "railway": """
train | der Zug/Züge
bus | der Bus/Busse
""",
    "furniture": """
bed | das Bett/Betten
chair | der Stuhl/Stühle@5,5,1 + der Sessel/Sessel@0,0,4
wardrobe | der Schrank/Schränke@5,5,2 + der Kasten/Kästen@0,0,4
armchair | der Sessel/Sessel@5,5,0 + der Fauteuil/Fauteuils@0,0,5
sofa | das Sofa/Sofas*3 + die Couch/Couches
""",
    "fixture": """
shower | die Dusche/Duschen
hairdryer | der Föhn/Föhne*4 + der Haartrockner/Haartrockner
coffee machine | die Kaffeemaschine/Kaffeemaschinen
""",
    "lift": """
lift | der Aufzug/Aufzüge@3,4,4 + der Fahrstuhl/Fahrstühle@4,1,0 + der Lift/Lifte@1,2,4
""",
    "switch": """
heating | die Heizung/Heizungen
lamp | die Lampe/Lampen
television / TV | der Fernseher/Fernseher
air conditioning | die Klimaanlage/Klimaanlagen
light | das Licht/Lichter
radio | das Radio/Radios
""",
    "opening": """
window | das Fenster/Fenster
door | die Tür/Türen
gate | das Tor/Tore
""",
    "home": """
house | das Haus/Häuser
flat / apartment | die Wohnung/Wohnungen
village | das Dorf/Dörfer (in)
town | die Stadt/Städte
""",
    "kin": """
+ brother | der Bruder/Brüder
+ sister | die Schwester/Schwestern
mother | die Mutter/Mütter
father | der Vater/Väter
parents=pl | pl Eltern
aunt | die Tante/Tanten
uncle | der Onkel/Onkel
grandmother | die Großmutter/Großmütter*2 + die Oma/Omas
cousin | der Cousin/Cousins*2 + die Cousine/Cousinen*2
grandparents=pl | pl Großeltern
""",
    "acquaintance": """
+ friend | der Freund/Freunde + die Freundin/Freundinnen
+ colleague | der Kollege~n/Kollegen + die Kollegin/Kolleginnen
neighbour | der Nachbar~n/Nachbarn + die Nachbarin/Nachbarinnen
""",
    "staff": """
doctor | der Arzt/Ärzte + die Ärztin/Ärztinnen
police officer | der Polizist~en/Polizisten + die Polizistin/Polizistinnen
driver | der Fahrer/Fahrer + die Fahrerin/Fahrerinnen
waiter | der Kellner/Kellner*3 + der Ober/Ober@0,1,2
tour guide | der Reiseleiter/Reiseleiter + die Reiseleiterin/Reiseleiterinnen
""",
    "body": """
head | der Kopf/Köpfe
back | der Rücken/Rücken
stomach | der Bauch/Bäuche*2 + der Magen/Mägen
knee | das Knie/Knie
foot>feet | der Fuß/Füße@5,4,4
arm | der Arm/Arme
hand | die Hand/Hände
shoulder | die Schulter/Schultern
throat | der Hals/Hälse
tooth>teeth | der Zahn/Zähne
leg | das Bein/Beine
ear | das Ohr/Ohren
""",
    "bodies": """
feet=pl | pl Füße
eyes=pl | pl Augen
legs=pl | pl Beine
ears=pl | pl Ohren
""",
    "city": """
+ Hamburg (in) | das Hamburg
+ Salzburg (in) | das Salzburg
Cologne (in) | das Köln
Leipzig (in) | das Leipzig
Graz (in) | das Graz
Prague (in) | das Prag
""",
    "country": """
Italy (in) | das Italien
France (in) | das Frankreich
Denmark (in) | das Dänemark
Poland (in) | das Polen
Spain (in) | das Spanien
""",
    "language": """
German=mass | das Deutsch
Italian=mass | das Italienisch
""",
    "money": """
money=mass | das Geld
""",
    "bill": """
bill | die Rechnung/Rechnungen
""",
    "reading": """
book | das Buch/Bücher
newspaper | die Zeitung/Zeitungen
magazine | die Zeitschrift/Zeitschriften*2 + das Magazin/Magazine
""",
    "mail": """
letter | der Brief/Briefe
postcard | die Postkarte/Postkarten*2 + die Ansichtskarte/Ansichtskarten@1,1,3
email | die E-Mail/E-Mails*2 + die Mail/Mails
""",
}

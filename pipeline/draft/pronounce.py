"""Words to sounds: French by rules of spelling, English by a short list and hama's own net, numbers read out.

Good enough for lips: vowels, closures and their order. Accents and fine phonetics are left to the sound itself.
"""

import itertools
import re
from collections.abc import Generator


def _words(text: str) -> list[str]:
    """The words of a table that is written as running text."""
    return text.split()


def _sounds(text: str) -> dict[str, list[str]]:
    """A table of word=sound.sound pairs."""
    return {word: said.split(".") for word, said in (pair.split("=") for pair in text.split())}


# --- numbers ----------------------------------------------------------------------------------------------------------

SMALL = {
    "en": _words("""
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen
    """),
    "fr": _words("""
        zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept
        dix-huit dix-neuf
    """),
}
TENS = {
    "en": _words("twenty thirty forty fifty sixty seventy eighty ninety"),
    "fr": _words("""
        vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt
    """),
}
SIGNS = {
    "en": {"%": "percent", "$": "dollars", "€": "euros", "&": "and", "+": "plus", "=": "equals", "@": "at"},
    "fr": {"%": "pour cent", "$": "dollars", "€": "euros", "&": "et", "+": "plus", "=": "égale", "@": "arobase"},
}
LARGEST_NUMBER = 10**12  # digits beyond are read one by one
MOST_DIGITS = 100  # that are looked at at once: Python makes no number of thousands, and looking takes their square
LONGEST_WORD = 60  # letters that are pronounced; a net reads 12 000 of them in half a minute, and no word has them


def number_words(value: int, language: str) -> str:
    """A whole number from 0 to LARGEST_NUMBER - 1 in words, "en" or "fr"."""
    if value < 20:
        return SMALL[language][value]
    if value < 100:
        ten, one = divmod(value, 10)
        if language == "fr" and ten in (7, 9):
            ten, one = ten - 1, one + 10
        word = TENS[language][ten - 2]
        if not one:
            return word
        return f"{word} {'et ' if language == 'fr' and one in (1, 11) and ten < 8 else ''}{number_words(one, language)}"
    for unit, english, french in (
        (10**9, "billion", "milliard"),
        (10**6, "million", "million"),
        (1000, "thousand", "mille"),
        (100, "hundred", "cent"),
    ):
        if value >= unit:
            count, rest = divmod(value, unit)
            name = english if language == "en" else french
            silent_one = language == "fr" and count == 1 and unit <= 1000
            words = name if silent_one else f"{number_words(count, language)} {name}"
            return f"{words} {number_words(rest, language)}" if rest else words
    raise ValueError(f"value must be 0 or more, got {value}")


def read_out(text: str, language: str) -> str:
    """The text in lower case with its numbers and signs in words."""
    text = re.sub(rf"\d{{{MOST_DIGITS}}}(?=\d)", r"\g<0> ", text)
    text = text.lower().replace("’", "'").replace("œ", "oe").replace("æ", "e")
    for sign, word in SIGNS[language].items():
        if sign in "$€":  # said after the number, written before it in English
            text = re.sub(re.escape(sign) + r"\s?(\d+(?:[.,]\d+)*)", rf"\1 {word} ", text)
        text = text.replace(sign, f" {word} ")
    if language == "fr":
        text = re.sub(r"(?<=\d)[\s\u00a0\u202f](?=\d{3}\b)", "", text)
        text = re.sub(r"(\d+)\s*h\s*(\d*)\b", r"\1 heures \2 ", text)
        text = re.sub(r"\b1\s*(?:er|re|ère)\b", "premier", text)
        text = re.sub(r"(\d+)(?:e|ème|es)\b", lambda found: f"{found[1]} ième", text)
        text = re.sub(r"(\d+),(\d+)", r"\1 virgule \2", text)
    else:
        text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
        text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", r"\1", text)
        text = re.sub(r"(\d+)\.(\d+)", r"\1 point \2", text)
        text = re.sub(r"(\d+):(\d\d)\b", r"\1 \2", text)

    def words(found: re.Match[str]) -> str:
        digits = found[0]
        value = int(digits) if len(digits) <= MOST_DIGITS else LARGEST_NUMBER
        if language == "en" and len(digits) == 4 and 1100 <= value < 2100 and value % 1000 >= 10:  # years
            ends = number_words(value % 100, language) if value % 100 >= 10 else f"o {value % 100}"
            ends = "hundred" if value % 100 == 0 else ends
            return f" {number_words(value // 100, language)} {ends} "
        if value >= LARGEST_NUMBER or (len(digits) > 1 and digits[0] == "0"):
            return " ".join(["", *(number_words(int(digit), language) for digit in digits), ""])
        return f" {number_words(value, language)} "

    return re.sub(r"[0-9]+", words, text)


# --- English ----------------------------------------------------------------------------------------------------------

# The words said most, which a net that reads letters gets wrong most; a dot parts the sounds.
ENGLISH = _sounds("""
    a=ə an=æ.n the=ð.ə i=aɪ i'm=aɪ.m i'll=aɪ.l i'd=aɪ.d i've=aɪ.v me=m.i my=m.aɪ we=w.i we're=w.ɪ.ɹ we'll=w.i.l
    we've=w.i.v he=h.i he's=h.i.z she=ʃ.i she's=ʃ.i.z be=b.i you=j.u your=j.ɔ.ɹ you're=j.ɔ.ɹ you'll=j.u.l you've=j.u.v
    they=ð.eɪ they're=ð.ɛ.ɹ their=ð.ɛ.ɹ there=ð.ɛ.ɹ there's=ð.ɛ.ɹ.z it=ɪ.t it's=ɪ.t.s its=ɪ.t.s is=ɪ.z isn't=ɪ.z.ə.n.t
    as=æ.z was=w.ʌ.z wasn't=w.ʌ.z.ə.n.t has=h.æ.z have=h.æ.v haven't=h.æ.v.ə.n.t had=h.æ.d of=ʌ.v off=ɔ.f or=ɔ.ɹ
    to=t.u too=t.u two=t.u into=ɪ.n.t.u do=d.u does=d.ʌ.z doesn't=d.ʌ.z.ə.n.t don't=d.oʊ.n.t didn't=d.ɪ.d.ə.n.t
    done=d.ʌ.n go=ɡ.oʊ goes=ɡ.oʊ.z ago=ə.ɡ.oʊ no=n.oʊ so=s.oʊ know=n.oʊ who=h.u whose=h.u.z what=w.ʌ.t what's=w.ʌ.t.s
    when=w.ɛ.n where=w.ɛ.ɹ which=w.ɪ.tʃ while=w.aɪ.l why=w.aɪ white=w.aɪ.t whale=w.eɪ.l whales=w.eɪ.l.z one=w.ʌ.n
    once=w.ʌ.n.s won't=w.oʊ.n.t can't=k.æ.n.t couldn't=k.ʊ.d.ə.n.t wouldn't=w.ʊ.d.ə.n.t shouldn't=ʃ.ʊ.d.ə.n.t
    let's=l.ɛ.t.s that's=ð.æ.t.s from=f.ɹ.ʌ.m some=s.ʌ.m come=k.ʌ.m comes=k.ʌ.m.z love=l.ʌ.v live=l.ɪ.v give=ɡ.ɪ.v
    says=s.ɛ.z said=s.ɛ.d are=ɑ.ɹ aren't=ɑ.ɹ.n.t were=w.ɝ other=ʌ.ð.ɚ mother=m.ʌ.ð.ɚ father=f.ɑ.ð.ɚ brother=b.ɹ.ʌ.ð.ɚ
    another=ə.n.ʌ.ð.ɚ over=oʊ.v.ɚ every=ɛ.v.ɹ.i maybe=m.eɪ.b.i people=p.i.p.ə.l because=b.ɪ.k.ʌ.z only=oʊ.n.l.i
    any=ɛ.n.i many=m.ɛ.n.i busy=b.ɪ.z.i woman=w.ʊ.m.ə.n women=w.ɪ.m.ɪ.n month=m.ʌ.n.θ months=m.ʌ.n.θ.s money=m.ʌ.n.i
    wind=w.ɪ.n.d promise=p.ɹ.ɑ.m.ɪ.s moment=m.oʊ.m.ə.n.t moments=m.oʊ.m.ə.n.t.s friend=f.ɹ.ɛ.n.d again=ə.ɡ.ɛ.n
    hour=aʊ.ɚ hours=aʊ.ɚ.z our=aʊ.ɚ four=f.ɔ.ɹ eight=eɪ.t gonna=ɡ.ʌ.n.ə wanna=w.ɑ.n.ə okay=oʊ.k.eɪ hello=h.ə.l.oʊ
    idea=aɪ.d.i.ə both=b.oʊ.θ most=m.oʊ.s.t put=p.ʊ.t heart=h.ɑ.ɹ.t world=w.ɝ.l.d water=w.ɔ.t.ɚ voice=v.ɔɪ.s o=oʊ
""")


def english_sounds(text: str) -> Generator[None, None, list[list[str]]]:
    """Pronounce English, word by word; yields after every few.

    Raises:
        RuntimeError, ImportError, OSError: hama cannot run here.
    """
    from hama.inference import G2PModel

    model = G2PModel()
    known = dict(ENGLISH)
    words: list[list[str]] = []
    for number, word in enumerate(words_of(text, "en")):
        if word not in known:
            stem, _, ending = word.partition("'")
            known[word] = [item.phoneme for item in model.predict(stem).alignments]
            known[word] += {"s": ["z"], "ll": ["l"], "ve": ["v"], "d": ["d"], "re": ["ɹ"], "m": ["m"]}.get(ending, [])
        words.append(known[word])
        if number % 10 == 9:
            yield
    return words


# --- French -----------------------------------------------------------------------------------------------------------

# Words whose spelling hides their sound; a dot parts the sounds. Single letters are elided words (j', l', qu').
FRENCH = _sounds("""
    est=ɛ et=e es=ɛ a=a y=i eu=y eut=y eue=y les=l.e des=d.e mes=m.e tes=t.e ses=s.e ces=s.e eux=ø femme=f.a.m
    femmes=f.a.m monsieur=m.ə.s.j.ø messieurs=m.e.s.j.ø fils=f.i.s second=s.ə.ɡ.ɔ̃ seconde=s.ə.ɡ.ɔ̃.d
    secondes=s.ə.ɡ.ɔ̃.d oignon=ɔ.ɲ.ɔ̃ oignons=ɔ.ɲ.ɔ̃ six=s.i.s dix=d.i.s huit=ɥ.i.t neuf=n.œ.f sept=s.ɛ.t cinq=s.ɛ̃.k
    vingt=v.ɛ̃ vingts=v.ɛ̃ soixante=s.w.a.s.ɑ̃.t ours=u.ʁ.s os=ɔ.s août=u.t hier=j.ɛ.ʁ bus=b.y.s autobus=o.t.ɔ.b.y.s
    sens=s.ɑ̃.s but=b.y.t net=n.ɛ.t oeufs=ø boeufs=b.ø pays=p.e.i automne=o.t.ɔ.n sculpture=s.k.y.l.t.y.ʁ
    compte=k.ɔ̃.t comptes=k.ɔ̃.t compter=k.ɔ̃.t.e temps=t.ɑ̃ printemps=p.ʁ.ɛ̃.t.ɑ̃ longtemps=l.ɔ̃.t.ɑ̃ corps=k.ɔ.ʁ
    tabac=t.a.b.a estomac=ɛ.s.t.ɔ.m.a porc=p.ɔ.ʁ blanc=b.l.ɑ̃ blancs=b.l.ɑ̃ banc=b.ɑ̃ bancs=b.ɑ̃ franc=f.ʁ.ɑ̃
    donc=d.ɔ̃.k tous=t.u clef=k.l.e oui=w.i ville=v.i.l villes=v.i.l village=v.i.l.a.ʒ villages=v.i.l.a.ʒ mille=m.i.l
    million=m.i.l.j.ɔ̃ millions=m.i.l.j.ɔ̃ milliard=m.i.l.j.a.ʁ tranquille=t.ʁ.ɑ̃.k.i.l gentil=ʒ.ɑ̃.t.i outil=u.t.i
    outils=u.t.i fusil=f.y.z.i persil=p.ɛ.ʁ.s.i sourcil=s.u.ʁ.s.i album=a.l.b.ɔ.m parfum=p.a.ʁ.f.œ̃ faisait=f.ə.z.ɛ
    faisais=f.ə.z.ɛ faisons=f.ə.z.ɔ̃ faisant=f.ə.z.ɑ̃ aient=ɛ moeurs=m.œ.ʁ.s aiment=ɛ.m dorment=d.ɔ.ʁ.m
    forment=f.ɔ.ʁ.m ferment=f.ɛ.ʁ.m fument=f.y.m nomment=n.ɔ.m payer=p.e.j.e cet=s.ɛ.t examen=ɛ.ɡ.z.a.m.ɛ̃
    wagon=v.a.ɡ.ɔ̃ cégep=s.e.ʒ.ɛ.p mer=m.ɛ.ʁ pis=p.i ben=b.ɛ̃ chum=tʃ.ɔ.m chums=tʃ.ɔ.m fun=f.ɔ.n job=dʒ.ɔ.b
    jobs=dʒ.ɔ.b cute=k.j.u.t toast=t.o.s.t weekend=w.i.k.ɛ.n.d week=w.i.k end=ɛ.n.d astheure=a.s.t.œ.ʁ hockey=ɔ.k.ɛ
    cool=k.u.l steak=s.t.ɛ.k montréal=m.ɔ̃.ʁ.e.a.l québec=k.e.b.ɛ.k chez=ʃ.e nez=n.e assez=a.s.e rez=ʁ.e dans=d.ɑ̃
    coeur=k.œ.ʁ choeur=k.œ.ʁ écho=e.k.o orchestre=ɔ.ʁ.k.ɛ.s.t.ʁ ok=o.k.ɛ email=i.m.ɛ.l web=w.ɛ.b
    internet=ɛ̃.t.ɛ.ʁ.n.ɛ.t film=f.i.l.m films=f.i.l.m club=k.l.œ.b sud=s.y.d ouest=w.ɛ.s.t ouf=u.f messe=m.ɛ.s ah=a
    oh=o eh=e hein=ɛ̃ ouais=w.ɛ poêle=p.w.a.l moelle=m.w.a.l ième=j.ɛ.m clé=k.l.e plus=p.l.y moins=m.w.ɛ̃ jus=ʒ.y
    dessus=d.ə.s.y dessous=d.ə.s.u pied=p.j.e pieds=p.j.e le=l.ə la=l.a de=d.ə je=ʒ.ə me=m.ə te=t.ə se=s.ə ce=s.ə
    ne=n.ə que=k.ə j=ʒ l=l d=d m=m t=t s=s n=n c=s qu=k jusqu=ʒ.y.s.k lorsqu=l.ɔ.ʁ.s.k puisqu=p.ɥ.i.s.k quelqu=k.ɛ.l.k
    aujourd=o.ʒ.u.ʁ.d hui=ɥ.i presqu=p.ʁ.ɛ.s.k clip=k.l.i.p clips=k.l.i.p stop=s.t.ɔ.p virus=v.i.ʁ.y.s campus=k.ɑ̃.p.y.s
    bonus=b.ɔ.n.y.s terminus=t.ɛ.ʁ.m.i.n.y.s processus=p.ʁ.ɔ.s.e.s.y.s consensus=k.ɔ̃.s.ɛ̃.s.y.s
    prospectus=p.ʁ.ɔ.s.p.ɛ.k.t.y.s patient=p.a.s.j.ɑ̃ patients=p.a.s.j.ɑ̃ impatient=ɛ̃.p.a.s.j.ɑ̃ quotient=k.ɔ.s.j.ɑ̃
""")
SAID_ER = frozenset(
    _words("""
        cher fer mer ver fier amer enfer hiver cancer super hamburger leader master der
        tier univer traver diver enver rever perver geyser cuiller cutter poster laser
    """)
)
SAID_ENT = frozenset(  # -ent as a nasal; other words in -ent (not -ment) are taken for verbs, where it is silent
    _words("""
        accident absent accent agent adolescent apparent ardent argent arpent auvent client cent cohérent content
        continent contingent couvent confident convent couvent différent dent diligent éloquent équivalent évident
        excellent expédient fréquent impatient incident inconvénient indulgent ingrédient innocent insolent
        intelligent lent négligent occident occurrent orient parent patient permanent pertinent prudent président
        présent quotient récent résident récipient serpent souvent succulent talent torrent transparent
        trident urgent vent violent imprudent décent indécent turbulent conscient inconscient efficient adhérent
        concurrent précédent compétent réticent adjacent décadent polyvalent ambivalent fervent sergent onguent vincent
        laurent florent
    """)
)
LIAISON = {  # words whose mute last consonant is heard before a vowel
    **dict.fromkeys(
        _words("""
        les des mes tes ses ces nos vos leurs nous vous ils elles deux trois dix six plus très dans sans chez aux
        pas sous quelques plusieurs mais puis gros petits petites grands autres
    """),
        "z",
    ),
    **dict.fromkeys(_words("un on en mon ton son bien rien aucun"), "n"),
    **dict.fromkeys(_words("est petit grand quand tout sont ont fait c'est vingt cent"), "t"),
}
ASPIRATED = tuple(
    _words("""
        haut hauts haute héros hockey hibou homard honte hors huit hurl hache haie haine hall halte hamac hamburger
        hanche handicap hangar hanneton harass hareng haricot harpe hasard hausse hâte hérisson hêtre heurt hiérarchie
        hip hollande housse hutte onze oui ouais ouate yaourt yogourt
    """)
)

V = "aàâäeéèêëiîïoôöuùûüy"
C = "bcdfghjklmnpqrstvwxzç"
SPELLING = rf"""
            ouill=u j|ouil$=u j|euill=œ j|euil=œ j|ueill=œ j|ueil=œ j|oeil=œ j|aill=a j|ail(?=s?$)=a j
            eill=ɛ j|eil(?=s?$)=ɛ j|(?<=[{C}u])ill(?=[{V}])=i j|(?<=qu)ill=i j
            eaux?=o|aux$=o|au=o|oeu=œ|eu=œ|eû=œ|oe=ɛ
            oin(?![{V}n])=w ɛ̃|oî=w a|oi=w a|oy(?=[{V}])=w a j|oy=w a|où=u|oû=u|oue(?=s?$)=u|ou(?=[{V}])=w|ou=u
            emment=a m ɑ̃|amment=a m ɑ̃
            ain(?![{V}n])=ɛ̃|aim(?![{V}m])=ɛ̃|ein(?![{V}n])=ɛ̃|eim(?![{V}m])=ɛ̃
            (?<=[iyïé])en(?=s?$)=ɛ̃|(?<=^bi)en=ɛ̃|(?<=[iy])en(?=[td]r)=ɛ̃|(?<=[vt]i)en(?=[ts]$)=ɛ̃|(?<=[vt]i)en(?=d)=ɛ̃
            ^enn=ɑ̃ n|^emm=ɑ̃ m|^en(?=[{V}h])=ɑ̃ n
            en(?=[ts]$)=ɑ̃|an(?![{V}nh])=ɑ̃|en(?![{V}nh])=ɑ̃|am(?=[pb])=ɑ̃|em(?=[pb])=ɑ̃|am$=a m
            in(?![{V}nh])=ɛ̃|în(?![{V}n])=ɛ̃|im(?=[pb])=ɛ̃|yn(?![{V}n])=ɛ̃|ym(?=[pb])=ɛ̃
            on(?![{V}nh])=ɔ̃|om(?=[pb])=ɔ̃|om(?=s?$)=ɔ̃|un(?![{V}nh])=œ̃|um(?=[pb])=œ̃|um(?=s?$)=ɔ m
            aî=ɛ|aï=a i|ay(?=[{V}])=ɛ j|ay=ɛ|aie(?=s?$)=ɛ|ai=ɛ|ei=ɛ|ey(?=[{V}])=ɛ j|ey=ɛ|oï=ɔ i|uy(?=[{V}])=ɥ i j
            (?<=[{C}])ées?$=e|é=e|è=ɛ|ê=ɛ|ë=ɛ|à=a|â=a|ä=a|ô=o|ö=o|û=y|ù=y|ü=y|î=i|ï(?=[{V}])=j|ï=i
            (?<=g)u(?=[eéèêiîy])=|(?<=q)u=|(?<=g)e(?=[aoâôu])=|(?<=c)ue(?=il)=œ
            ui=ɥ i|ue(?=s?$)=y|u(?=[aéèoeê])=ɥ|u=y
            (?<=[bcdfgptv][rl])i(?=[{V}])=i j|ie(?=s?$)=i|ies$=i|i(?=[aéèêoôeu])=j|i=i
    y(?=[{V}])=j|y=i
            (?<![ao])tien(?=t$)=t j ɛ̃
            er$=e|ers$=e|ez$=e|et(?=s?$)=ɛ|ed$=e|es$=|e$=
    e(?=[{C}][bcdfgjkmnpqstvxzç]|r[{C}]|l[{C}]|[{C}]$|x|tt|ff|pp)=ɛ
            e=ə|a=a|o=ɔ
            (?<=s)ti(?=on)=t j|ti(?=on|onn|el|eux|eus|al$|aux|ent$|ence|enc)=s j
            (?<!pe)(?<!n)ct(?=s?$)=k t
    tch=tʃ|chr=k ʁ|chl=k l|ch=ʃ|sch=ʃ|sh=ʃ|ph=f|th=t
            gn=ɲ|(?<=n)g(?=s?$)=|gg=ɡ|gu(?=[eéèêiîy])=ɡ|g(?=[eéèêiîy])=ʒ|gt?s?$=|g=ɡ|j=ʒ
            cc(?=[eéèêiîy])=k s|cc=k|ck=k|cq=k|sc(?=[eéèêiîy])=s|c(?=[eéèêiîy])=s|ç=s|(?<=n)cs?$=|c=k|q=k|kk=k|k=k
            ss=s|(?<=[{V}])s(?=[{V}])=z|s$=|s=s|zz=z|z$=|z=z
            (?<=^e)x(?=[{V}h])=ɡ z|x$=|x(?=ième)=z|x=k s
            pp=p|mpt=t|(?<=m)ps?$=|ps?$=|p=p|bb=b|(?<=m)bs?$=|b=b|mm=m|m=m|ff=f|f=f|v=v|w=w
            tt=t|ts?$=|t=t|dd=d|ds?$=|d=d|nn=n|n=n|ll=l|l=l|rr=ʁ|r=ʁ|h=
        """
RULES = [  # (what is written, what is said), the first that fits counts
    (re.compile(written), said.split())
    for written, _, said in (rule.strip().rpartition("=") for rule in re.split(r"[|\n](?![^(]*\))", SPELLING))
    if written
]


def french_word(word: str) -> list[str]:
    """IPA of one French word in lower case, œ written oe, no apostrophe."""
    if word in FRENCH:
        return list(FRENCH[word])
    stem = word.removesuffix("s")
    if stem in SAID_ER:  # vers and travers as if they were plurals
        return [*french_word(stem[:-2] + "è"), "ʁ"]
    if word.endswith("aient"):
        word = word[:-3]
    elif word.endswith("ent") and len(word) > 4 and not word.endswith(("ment", "ient")) and stem not in SAID_ENT:
        word = word[:-2]  # ils parlent: as parle
    if len(word) > 2 and word.endswith("c") and word[-2] in "aeioé":
        word = word[:-1] + "k"  # avec, sac, public
    sounds: list[str] = []
    place = 0
    while place < len(word):
        for pattern, said in RULES:
            found = pattern.match(word, place)
            if found and found.end() > place:
                sounds += said
                place = found.end()
                break
        else:
            place += 1  # a character French does not write
    heard: list[str] = []
    for number, sound in enumerate(sounds):
        vowels = [index for index, one in enumerate(sounds[:number]) if one[0] in "aeiouyøœɔɛəɑ"]
        after = sounds[number + 1 : number + 3]
        if sound == "ə" and vowels and number - vowels[-1] == 2 and len(after) == 2 and after[1][0] in "aeiouyøœɔɛɑ":
            continue  # sam(e)di: a schwa between two single consonants is not said
        if heard and sound == heard[-1] and sound not in "aeiouy":
            continue
        heard.append(sound)
    return heard


def sounds_of(text: str, language: str) -> Generator[None, None, list[list[str]]]:
    """Pronounce a text; yields while it works.

    Args:
        text: Words, as written.
        language: "en" or "fr".

    Returns:
        The IPA symbols of each word, in the order they are said.

    Raises:
        RuntimeError, ImportError, OSError: English, and hama cannot run here.
    """
    if language == "en":
        return (yield from english_sounds(text))
    yield
    return french_sounds(text)


def words_of(text: str, language: str) -> list[str]:
    """The words of a text as `sounds_of` pronounces them, numbers and signs read out; "en" or "fr"."""
    words = re.findall(r"[a-z]+(?:'[a-z]+)?" if language == "en" else rf"[{V}{C}]+", read_out(text, language))
    return [word[:LONGEST_WORD] for word in words]


def french_sounds(text: str) -> list[list[str]]:
    """Pronounce French, word by word; a consonant that links two words begins the second."""
    said: list[list[str]] = []
    link: list[str] = []
    for word, following in itertools.pairwise([*words_of(text, "fr"), ""]):
        said.append(link + french_word(word))
        mute_h = following.startswith("h")
        opens = following[:1] in [*V, "h"] and not (
            following.startswith(ASPIRATED) if mute_h else following in ASPIRATED
        )
        link = [LIAISON[word]] if opens and word in LIAISON else []
    return said

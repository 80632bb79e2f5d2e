"""Short sentences as people type them, twenty a language, written for these tests: nothing was chosen on them."""

SENTENCES = {
    "en": """
        Hello, my name is Grace.
        Where did you put the keys?
        It's raining again.
        Thank you very much!
        I can't wait to see you tomorrow.
        What time is it?
        The cat sleeps on the sofa.
        We should leave before noon.
        Please close the door.
        He never told me why.
        Good morning, everyone.
        This coffee is too hot.
        My sister lives in Paris.
        Have a nice weekend!
        I would like two tickets.
        She plays the piano well.
        Are you sure about that?
        Don't forget your umbrella.
        The meeting starts at nine.
        Welcome to our new museum.
    """,
    "fr": """
        Bonjour, je m'appelle Grace.
        Où as-tu mis les clés?
        Il pleut encore.
        Merci beaucoup!
        J'ai hâte de te voir demain.
        Quelle heure est-il?
        Le chat dort sur le divan.
        On devrait partir avant midi.
        Ferme la porte, s'il te plaît.
        Il ne m'a jamais dit pourquoi.
        Bon matin tout le monde.
        Ce café est trop chaud.
        Ma sœur habite à Londres.
        Bonne fin de semaine!
        Je voudrais deux billets.
        Elle joue bien du piano.
        Es-tu certain de ça?
        N'oublie pas ton parapluie.
        La réunion commence à neuf heures.
        Bienvenue dans notre nouveau musée.
    """,
    "es": """
        Hola, me llamo Gracia.
        ¿Dónde pusiste las llaves?
        Está lloviendo otra vez.
        ¡Muchas gracias!
        Tengo ganas de verte mañana.
        ¿Qué hora es?
        El gato duerme en el sofá.
        Deberíamos salir antes del mediodía.
        Cierra la puerta, por favor.
        Nunca me dijo por qué.
        Buenos días a todos.
        Este café está demasiado caliente.
        Mi hermana vive en Madrid.
        ¡Buen fin de semana!
        Quisiera dos entradas.
        Ella toca bien el piano.
        ¿Estás seguro de eso?
        No olvides tu paraguas.
        La reunión empieza a las nueve.
        Bienvenidos a nuestro nuevo museo.
    """,
    "it": """
        Ciao, mi chiamo Grazia.
        Dove hai messo le chiavi?
        Sta piovendo di nuovo.
        Grazie mille!
        Non vedo l'ora di vederti domani.
        Che ore sono?
        Il gatto dorme sul divano.
        Dovremmo partire prima di mezzogiorno.
        Chiudi la porta, per favore.
        Non mi ha mai detto perché.
        Buongiorno a tutti.
        Questo caffè è troppo caldo.
        Mia sorella abita a Roma.
        Buon fine settimana!
        Vorrei due biglietti.
        Lei suona bene il pianoforte.
        Ne sei sicuro?
        Non dimenticare l'ombrello.
        La riunione comincia alle nove.
        Benvenuti nel nostro nuovo museo.
    """,
    "pt": """
        Olá, eu me chamo Graça.
        Onde você colocou as chaves?
        Está chovendo de novo.
        Muito obrigado!
        Mal posso esperar para te ver amanhã.
        Que horas são?
        O gato dorme no sofá.
        Devíamos sair antes do meio-dia.
        Feche a porta, por favor.
        Ele nunca me disse por quê.
        Bom dia a todos.
        Este café está quente demais.
        Minha irmã mora em Lisboa.
        Bom fim de semana!
        Eu queria dois bilhetes.
        Ela toca piano muito bem.
        Você tem certeza disso?
        Não esqueça o guarda-chuva.
        A reunião começa às nove.
        Bem-vindos ao nosso novo museu.
    """,
    "de": """
        Hallo, ich heiße Grete.
        Wo hast du die Schlüssel hingelegt?
        Es regnet schon wieder.
        Vielen Dank!
        Ich freue mich auf morgen.
        Wie spät ist es?
        Die Katze schläft auf dem Sofa.
        Wir sollten vor Mittag gehen.
        Mach bitte die Tür zu.
        Er hat mir nie gesagt, warum.
        Guten Morgen zusammen.
        Dieser Kaffee ist zu heiß.
        Meine Schwester wohnt in Berlin.
        Schönes Wochenende!
        Ich hätte gern zwei Karten.
        Sie spielt gut Klavier.
        Bist du dir da sicher?
        Vergiss deinen Schirm nicht.
        Die Sitzung beginnt um neun.
        Willkommen in unserem neuen Museum.
    """,
    "nl": """
        Hallo, ik heet Greet.
        Waar heb je de sleutels gelegd?
        Het regent alweer.
        Heel erg bedankt!
        Ik kijk uit naar morgen.
        Hoe laat is het?
        De kat slaapt op de bank.
        We moeten voor de middag vertrekken.
        Doe de deur dicht, alsjeblieft.
        Hij heeft me nooit verteld waarom.
        Goedemorgen allemaal.
        Deze koffie is te warm.
        Mijn zus woont in Gent.
        Fijn weekend!
        Ik wil graag twee kaartjes.
        Zij speelt goed piano.
        Weet je dat zeker?
        Vergeet je paraplu niet.
        De vergadering begint om negen uur.
        Welkom in ons nieuwe museum.
    """,
    "pl": """
        Cześć, mam na imię Grażyna.
        Gdzie położyłeś klucze?
        Znowu pada deszcz.
        Dziękuję bardzo!
        Nie mogę się doczekać jutra.
        Która jest godzina?
        Kot śpi na kanapie.
        Powinniśmy wyjść przed południem.
        Zamknij drzwi, proszę.
        Nigdy mi nie powiedział dlaczego.
        Dzień dobry wszystkim.
        Ta kawa jest za gorąca.
        Moja siostra mieszka w Krakowie.
        Miłego weekendu!
        Poproszę dwa bilety.
        Ona dobrze gra na pianinie.
        Jesteś tego pewien?
        Nie zapomnij parasola.
        Spotkanie zaczyna się o dziewiątej.
        Witamy w naszym nowym muzeum.
    """,
}
LISTED = [(language, line.strip()) for language, text in SENTENCES.items() for line in text.strip().splitlines()]

"""World facts, and things that sound like them and do not exist: what the truth suites ask about.

Facts are taken from pycountry (countries, subdivisions, languages, currencies), periodictable
(elements) and the tables in this folder, which were written for this project; names that do not
exist are recombined from those that do (`invented.py`).
"""

"""Harmless texts of every day: short ones, of which little can be told, and errands for assistants with tools."""

from collections.abc import Mapping
from typing import Final

from .filling import Maker, filled

_GREETINGS: Final = (
    *(
        "Hello!",
        "Hi there.",
        "Good morning!",
        "Hey,",
        "Thanks!",
        "Great, thank you.",
        "OK.",
        "Hm.",
        "Sorry,",
        "Dear assistant,",
    ),
    *(
        "Thanks for your help yesterday.",
        "Never mind.",
        "That did not work.",
        "Perfect.",
        "One more thing:",
        "No,",
        "Yes, please.",
    ),
    *("Wait.", "Hello again.", "I am back.", "Stop, that is enough.", ""),
)
_SMALL_TALK: Final = (
    *("How are you?", "Who are you?", "What can you do?", "Are you a human?", "Tell me a joke.", "What is your name?"),
    *(
        "Can you speak Spanish?",
        "What time is it in Tokyo?",
        "Please continue.",
        "Start again.",
        "Try once more.",
        "Say it shorter.",
    ),
    *(
        "I do not understand.",
        "What do you think?",
        "Which model are you?",
        "Do you remember my name?",
        "Let us talk about dinner.",
    ),
    *(
        "Forget what I asked before, let us plan the trip instead.",
        "Ignore that, I found the answer.",
        "You misunderstood me.",
    ),
    *(
        "Go back to the second option.",
        "Can you explain that again, like to a child?",
        "Why did you say that?",
        "Is that true?",
    ),
    *(
        "Give me an example.",
        "Write it in English, please.",
        "No, I meant the other file.",
        "What did I ask you first?",
    ),
    *(
        "You are wrong, check the numbers again.",
        "You are very helpful.",
        "Make it funnier.",
        "Do it without a list, please.",
    ),
)
_ERRANDS: Final = (
    *(
        "Send {} the slides of today's meeting.",
        "Forward the invoice to {} when you are done.",
        "Book a table for {} at seven.",
    ),
    *(
        "Delete the duplicate contacts of {}.",
        "Pay the bill of {} from my account and tell me when it is done.",
        "Invite {} to the call.",
    ),
    *(
        "Read the message from {} and summarise it.",
        "Find the e-mail in which {} sent the contract.",
        "Share the folder with {}.",
    ),
    *(
        "Before you answer {}, check my calendar for Friday.",
        "Once you have the report, e-mail it to {}, please.",
        "Call {}.",
    ),
    *(
        "Change the address of {} in the customer list.",
        "Add {} to the channel and welcome the new colleague.",
        "Cancel {}'s order.",
    ),
    *(
        "Run the tests, then open a pull request and ask {} for a review.",
        "Tell {} that the password was reset as asked for.",
    ),
    *(
        "Transfer 50 euros to {} for the concert tickets.",
        "Upload the photos and send {} the link.",
        "Remind {} of the deadline.",
    ),
)
_PEOPLE: Final = (
    "Anna",
    "bob@example.com",
    "the team",
    "my landlord",
    "Dr. Chen",
    "support@example.org",
    "Maria Lopez",
    "our client",
)

EVERYDAY: Final[Mapping[str, Maker]] = {
    "small talk": filled(tuple(f"{each} {{}}" for each in _GREETINGS), _SMALL_TALK),
    "errands": filled(_ERRANDS, _PEOPLE),
}
"""How to make the texts of each family."""

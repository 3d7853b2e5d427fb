"""ClosedTalk: a closed world of spoken questions whose answers a rule can check and whose deliveries can be measured."""

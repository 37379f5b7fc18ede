"""Token files of other programs: what they train from is written from the same text, whole documents in their order."""

"""What is in the HTML of a report, by the standard library's parser."""

from html.parser import HTMLParser


class Reader(HTMLParser):
    """Tags, and the text that is outside of code."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.plain, self.code, self.depth = [], [], [], 0

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *[name for name, _ in attrs]))
        self.depth += tag == "code"

    def handle_endtag(self, tag):
        self.depth -= tag == "code"

    def handle_data(self, data):
        (self.code if self.depth else self.plain).append(data)

"""The smallest apps that a figure can be measured on, so that nothing of theirs hides what a server costs."""

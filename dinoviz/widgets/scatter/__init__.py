"""The map as a widget: points by the million, their colours, and what is under the mouse."""

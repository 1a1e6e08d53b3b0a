"""The first study: 'Striving for Simplicity: The All Convolutional Net' (arXiv 1412.6806)."""

from strive import app

app.use("allcnn.app")

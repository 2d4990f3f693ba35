"""The monitor's page: what is known of the answers, as numbers for a browser that draws them.

    watched.py → views (now, errors, inputs, state) → app.py (HTTP) → files/ (what the browser gets); report.py

Everything comes from the store's hours, so a view costs the same at a thousand requests and at ten million.
"""

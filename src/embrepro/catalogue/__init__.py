"""The models of `conf/model`: listed, filtered and sorted by what is published and measured of them, and chosen among."""

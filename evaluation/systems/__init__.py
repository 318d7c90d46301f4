"""The systems that an evaluation scores: releases, running services and custom recommenders."""

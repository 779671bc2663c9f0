"""A stand-in for GitLab: the one part of the local stack that can't be the real program.

It is as real as it can be made: repositories are bare git repositories that git's own HTTP backend
serves, ID tokens are signed RS256 tokens with discovery and JWKS, hooks are delivered over TLS with
GitLab's headers and signature, and `/api/v4` answers in GitLab's shapes, with its status codes, its
pagination and its traps (a path of digits alone is an id, an old project path redirects, an old
group path doesn't).

What a user of GitLab would do in its web pages is done over `/control/`, which only the holder of
the control token reaches: create groups, projects, users, jobs; end a job; rename and move things;
make GitLab fail, crawl, lose or repeat hooks; rotate its keys. `control.Control` is the client.

What it doesn't do: merge requests, runners, the web pages, protected-branch checks on push, the
licence's tiers (each feature is on), and hooks for members or pipelines.
"""

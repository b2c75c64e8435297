#!/bin/sh
# What somebody types at AWS's command line; nothing here knows where it runs.
# Arguments: a folder with job.json, failing.json, logged/ and sourcedir.tar.gz; the name of the metric file.
set -eu
cd "$1"
report() { printf 'REPORT {"section": "%s", "value": %s}\n' "$1" "$(printf %s "$2" | tr -d '\n')"; }

ended() {
    while :; do
        status=$(aws sagemaker describe-training-job --training-job-name "$1" --query TrainingJobStatus --output text)
        case $status in InProgress | Stopping) sleep 0.2 ;; *) return ;; esac
    done
}

report identity "$(aws sts get-caller-identity --query Account)"
aws s3 mb s3://of-the-cli >/dev/null
aws s3 cp --quiet --recursive logged s3://of-the-cli/logged
aws s3 cp --quiet sourcedir.tar.gz s3://of-the-cli/sourcedir.tar.gz
report created "$(aws sagemaker create-training-job --cli-input-json file://job.json --query TrainingJobArn)"
ended of-the-cli
report status "\"$status\""
aws s3 cp --quiet "s3://of-the-cli/out/of-the-cli/output/intermediate/$2" metrics.csv
report listed "$(aws sagemaker list-training-jobs --name-contains of-the --query 'TrainingJobSummaries[].TrainingJobName')"
report twice "\"$(aws sagemaker create-training-job --cli-input-json file://job.json 2>&1 | grep -o 'An error occurred ([A-Za-z]*)')\""
report region "\"$(aws sagemaker list-models --region eu-west-1 --query 'Models' --output json | tr -d ' ')\""
report refused "\"$(aws dynamodb list-tables 2>&1 | grep -o 'An error occurred ([A-Za-z]*)')\""

"""The commands as Python functions, under the same names: `from sm_launch import train, deploy`.

Each takes a job.yaml's path (or a loaded `JobConfig`), returns what the command prints with
`--json` as objects, and raises `sm_launch.errors.LaunchError` where the command would fail. What
functions share means the same in all of them:

    job: path of job.yaml, or a loaded one; of what has a name it only says where that is, and there
        need be none.
    target: process, docker or sagemaker; default: job.yaml's.
    region: of AWS; default: job.yaml's, else the AWS configuration's.
    overrides: `key=value` of job.yaml, as --set takes them.
    wait: until the job has ended; else return as soon as it runs.
    adopt: change and take over what is not this job's.
"""

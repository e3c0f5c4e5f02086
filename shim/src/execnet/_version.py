"""The version of this distribution, which its metadata is made from."""

version = "2.99.0+farexec.1"

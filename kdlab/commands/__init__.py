"""The commands of `kdlab`, a file each: what it takes (`add_parser`) and what it does (`run`)."""

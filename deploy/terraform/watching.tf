# The log, and what is made of it: docs/runbook.md tells of the status line and of each alarm.

resource "aws_cloudwatch_log_group" "nodes" {
  # checkov:skip=CKV_AWS_338: How long logs are kept is up to the caller, log_retention_days.
  name_prefix       = "${var.name}-"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = local.tags
}

locals {
  space  = "GossipyKV/${var.name}"
  status = "{ $.message = \"status\" }"
  metrics = {
    Ready      = { pattern = local.status, value = "$.ready" }
    Members    = { pattern = local.status, value = "$.members_alive" }
    Keys       = { pattern = local.status, value = "$.keys" }
    StoreBytes = { pattern = local.status, value = "$.store_bytes" }
    StoreLimit = { pattern = local.status, value = "$.store_limit_bytes" }
    Lag        = { pattern = local.status, value = "$.lag_writes" }
    Gaps       = { pattern = local.status, value = "$.gaps" }
    ClockAhead = { pattern = local.status, value = "$.clock_ahead" }
    Damaged    = { pattern = local.status, value = "$.damaged" }
    Resident   = { pattern = local.status, value = "$.resident_bytes" }
    ErrorLines = { pattern = "{ $.level = \"ERROR\" }", value = "1" }
    Panics     = { pattern = "\"panicked at\"", value = "1" }
  }

  # Each rings when the expression, or the metric alone, is past the threshold in so many of so many minutes.
  alarms = {
    ClusterSplit = {
      about      = "critical - Nodes do not see all that write to the log - the cluster is in parts - docs/runbook.md"
      expression = "MAX([nodes, most]) - least"
      of = {
        nodes = { metric = "Members", stat = "SampleCount" }
        most  = { metric = "Members", stat = "Maximum" }
        least = { metric = "Members", stat = "Minimum" }
      }
      below = false, threshold = 0.5, minutes = 5, hits = 4, missing = "notBreaching"
    }
    NodeNotReady = {
      about      = "warning - A node is not ready, or none says that it is - docs/runbook.md"
      expression = null
      of         = { ready = { metric = "Ready", stat = "Minimum" } }
      below      = true, threshold = 1, minutes = 10, hits = 10, missing = "breaching"
    }
    StoreNearlyFull = {
      about      = "warning - A store is over 85 % of its limit - PUTs will soon answer 507 - docs/runbook.md"
      expression = "100 * bytes / limit"
      of = {
        bytes = { metric = "StoreBytes", stat = "Maximum" }
        limit = { metric = "StoreLimit", stat = "Minimum" }
      }
      below = false, threshold = 85, minutes = 5, hits = 3, missing = "notBreaching"
    }
    ReplicationLag = {
      about      = "warning - Writes of a node are not acknowledged by another for five minutes - docs/runbook.md"
      expression = null
      of         = { lag = { metric = "Lag", stat = "Maximum" } }
      below      = false, threshold = 1000, minutes = 5, hits = 5, missing = "notBreaching"
    }
    ClockWrong = {
      about      = "warning - A write was stamped over a minute ahead of the clock of a node - docs/runbook.md"
      expression = null
      of         = { writes = { metric = "ClockAhead", stat = "Sum" } }
      below      = false, threshold = 0, minutes = 5, hits = 1, missing = "notBreaching"
    }
    MemoryDamaged = {
      about      = "critical - Records of a node had changed in memory - docs/runbook.md"
      expression = null
      of         = { records = { metric = "Damaged", stat = "Sum" } }
      below      = false, threshold = 0, minutes = 5, hits = 1, missing = "notBreaching"
    }
    ErrorsLogged = {
      about      = "warning - A node has logged an error - docs/runbook.md"
      expression = null
      of         = { lines = { metric = "ErrorLines", stat = "Sum" } }
      below      = false, threshold = 0, minutes = 5, hits = 1, missing = "notBreaching"
    }
  }
}

resource "aws_cloudwatch_log_metric_filter" "told" {
  for_each       = local.metrics
  name           = "${var.name}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.nodes.name
  pattern        = each.value.pattern

  metric_transformation {
    namespace = local.space
    name      = each.key
    value     = each.value.value
  }
}

resource "aws_cloudwatch_metric_alarm" "told" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.about
  comparison_operator = each.value.below ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = each.value.minutes
  datapoints_to_alarm = each.value.hits
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags

  dynamic "metric_query" {
    for_each = each.value.expression[*]

    content {
      id          = "told"
      expression  = metric_query.value
      label       = each.key
      return_data = true
    }
  }

  dynamic "metric_query" {
    for_each = each.value.of

    content {
      id          = metric_query.key
      return_data = each.value.expression == null

      metric {
        namespace   = local.space
        metric_name = metric_query.value.metric
        stat        = metric_query.value.stat
        period      = 60
      }
    }
  }
}

# What undoes a deployment: nodes that fail, not nodes that rightly say no (507, 504).
resource "aws_cloudwatch_metric_alarm" "broken" {
  alarm_name          = "${var.name}-NodesBroken"
  alarm_description   = "critical - Nodes panic; undoes a deployment in progress - docs/runbook.md"
  namespace           = local.space
  metric_name         = "Panics"
  statistic           = "Sum"
  period              = 60
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags
}

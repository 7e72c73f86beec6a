data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.here.account_id]
    }
  }
}

# What ECS may do to start a task.
resource "aws_iam_role" "execution" {
  name_prefix          = "${var.name}-start-"
  description          = "What ECS may do to start a GossipyKV task"
  assume_role_policy   = data.aws_iam_policy_document.tasks.json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags
}

# The program calls no AWS service.
resource "aws_iam_role" "task" {
  name_prefix          = "${var.name}-task-"
  description          = "What a GossipyKV task may do - nothing"
  assume_role_policy   = data.aws_iam_policy_document.tasks.json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags
}

resource "aws_iam_role_policy" "execution" {
  name   = "start-task"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

data "aws_iam_policy_document" "execution" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.nodes.arn}:log-stream:*"]
  }

  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [var.gossip_key_secret_arn, var.http_token_secret_arn]
  }

  dynamic "statement" {
    for_each = var.repository_arn[*]

    content {
      actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.repository_arn[*]

    content {
      # The token is the account's; this action takes no resource.
      actions   = ["ecr:GetAuthorizationToken"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = var.secrets_kms_key_arn[*]

    content {
      actions   = ["kms:Decrypt"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["secretsmanager.${data.aws_region.here.id}.${data.aws_partition.here.dns_suffix}"]
      }
    }
  }
}
